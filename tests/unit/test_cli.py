"""The command line: what it refuses, in which words and forms, and with which exit code."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import AnyHttpUrl, SecretStr
from rich.console import Console
from stamina.instrumentation import set_on_retry_hooks

from sdk_client import errors
from sdk_client.cli.approvals import show_list
from sdk_client.cli.demo_table import Row, fit
from sdk_client.cli.execute import execute
from sdk_client.cli.inputs import build_input
from sdk_client.cli.main import main
from sdk_client.cli.output import Interrupted, Output, command
from sdk_client.cli.pauses import edit_diff, show_pause
from sdk_client.cli.receiver import NoCallbackError, Receiver, ReceiverSettings
from sdk_client.decisions import Decision
from sdk_client.pauses import Action, Approval

THREAD = "4f1d9c1e-58d5-5a0a-9a51-3d7c1f0e8a42"
RUN = "01a1f8f8-ceea-77cc-90aa-432b61327827"
ESCAPE = "\x1b[2J"

Answer = Callable[[str, str, dict[str, Any]], tuple[int, Any]]
"""From method, path and body to status and JSON."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A server that refuses connections, one try, no .env of the project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HOLDFAST_RETRY_ATTEMPTS", "2")
    for name in ("HOLDFAST_DEBUG", "CALLBACKS_URL", "LG_WEBHOOK_TOKEN", "HOLDFAST_WEBHOOK_URL"):
        monkeypatch.delenv(name, raising=False)
    yield
    set_on_retry_hooks(None)


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Serve JSON over real HTTP on a free port; gives the address."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
                status, value = answer(self.command, self.path, body)
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output clean."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def approval(**changes: Any) -> Approval:
    given: dict[str, Any] = {
        "thread_id": THREAD,
        "pause_id": "p1",
        "kind": "inbox",
        "assistant_id": "support",
        "graph_id": "support",
        "node": "human_approval",
        "action": "send_reply",
        "args": {"reply": f"Hello{ESCAPE}"},
        "description": "Send this?",
        "allowed": frozenset({"approve", "reject"}),
        "created_at": None,
    }
    given |= changes
    given.setdefault(
        "actions", (Action(*(given[name] for name in ("action", "args", "description", "allowed"))),)
    )
    return Approval(**given)


def test_text_and_input_are_merged(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('\ufeff{"messages": [{"role": "user", "content": "a"}], "tasks": [1]}')
    assert build_input("b", "in.json") == {
        "messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        "tasks": [1],
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to send"),
        (["  "], "the TEXT is empty"),
        (["--input", '{"a": 1,\n b}'], "line 2, column 2"),
        (["--input", "[1]"], "must be a JSON object ({…}), not a list"),
        (["--input", '{"a": NaN}'], "NaN is no JSON number"),
        (["--input", '{"a": ' + "[" * 100_000], "nested too deeply"),
        (["--input", "none.json"], "there is no file none.json"),
        (["--input", "."], "cannot be read: Is a directory"),
        (["--input", "binary"], "not text in UTF-8"),
        (["hi", "--input", '{"messages": "x"}'], "'messages' in --input must be a list"),
        (["hi", "--deadline", "0"], "'--deadline'"),
        (["hi", "--bogus"], "No such option: --bogus"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert main(["run", "echo", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert says in told.err.splitlines()[0]
    assert "Traceback" not in told.err

    assert main(["run", "echo", *arguments, "--json"]) == 2
    told = capsys.readouterr()
    assert told.err == ""
    error = json.loads(told.out)["error"]
    assert error["type"] == "ConfigurationError"
    assert says in error["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["watch", "x"],
        ["watch", RUN, THREAD, RUN],
        ["approvals", "approve", "x"],
        ["approvals", "respond", THREAD],
        ["approvals", "respond", THREAD, "a", "--value", "1"],
        ["approvals", "respond", THREAD, "--value", "NaN"],
        ["approvals", "edit", THREAD, "--args", "{"],
        ["threads", "inspect"],
        ["threads", "inspect", THREAD, "--conversation", "c"],
        ["demo"],
        ["demo", "--examples", "."],
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--json"]) == 2
    assert set(json.loads(capsys.readouterr().out)) == {"error"}


def test_a_missing_address_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HOLDFAST_URL")
    assert main(["approvals", "list"]) == 2
    assert "HOLDFAST_URL" in capsys.readouterr().err


def test_no_server_is_exit_code_5_and_nothing_but_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "echo", "hi", "--json"]) == 5
    told = capsys.readouterr()
    assert told.err == ""
    assert (
        json.loads(told.out)["error"]["type"] == "PlatformUnavailableError"
    )  # retries were not logged there

    assert main(["submit", "echo", "hi"]) == 5
    told = capsys.readouterr()
    assert told.out == ""
    assert "HOLDFAST_URL" in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("x"), 2),
        (errors.RunFailedError("x", status="error"), 1),
        (errors.RunTimedOutError("x", status="timeout"), 1),
        (errors.ApprovalNeededError("x", approvals=[approval()], values={}), 3),
        (errors.RefusedError("x", status_code=422), 4),
        (errors.AuthenticationError("x", status_code=401), 4),
        (errors.ThreadBusyError("x"), 4),
        (errors.AlreadyDecidedError("x", decision="approve", decided_by="ann", decided_at="now"), 4),
        (errors.PlatformUnavailableError("x"), 5),
        (errors.OutcomeUnknownError("x", request_id="r"), 5),
        (errors.DeadlineExceededError("x", run_id=RUN, thread_id=THREAD), 5),
        (Interrupted("x"), 130),
        (ZeroDivisionError("x"), 70),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_each_end_has_its_exit_code(
    error: Exception, code: int, form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_with(error, as_json=bool(form)) == code
    told = capsys.readouterr()
    assert "Traceback" not in told.out + told.err
    if form:
        assert told.err == ""
        assert json.loads(told.out)["error"]["type"] in (type(error).__name__, "HoldfastError")


def end_with(error: Exception, *, as_json: bool) -> int:
    """The exit code of a command whose work raises this."""
    app = typer.Typer()

    @app.command()
    def command(context: typer.Context) -> None:
        async def work(*_: object) -> None:
            raise error

        execute(context, as_json, work)

    return int(app([], standalone_mode=False))


def test_a_pause_shows_the_commands_and_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    end_with(errors.ApprovalNeededError("x", approvals=[approval()], values={}), as_json=False)
    out = capsys.readouterr().out
    assert f"\n  holdfast approvals approve {THREAD}\n" in out
    assert f"\n  holdfast approvals reject {THREAD}\n" in out
    assert "holdfast approvals edit" not in out  # this pause does not allow it
    assert r"Hello\x1b[2J" in out
    assert "\x1b" not in out


def test_several_actions_show_who_decided_and_the_commands_of_those_that_are_open(
    capsys: pytest.CaptureFixture[str],
) -> None:
    refund = Action("refund", {"amount": 2.5}, "Pay?", frozenset({"approve", "edit", "reject", "respond"}))
    close = Action("close", {"name": "kim"}, None, frozenset({"approve"}))
    pause = approval(kind="hitl", actions=(refund, close), allowed=frozenset({"approve"}))
    ann = Decision(THREAD, "p1", "approve", "ann", "now", run=None, action=1)
    show_pause(Output(as_json=False), [pause], {"p1": (None, ann)})
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["1", "refund", "approve,", "edit,", "reject,", "respond", "open"] in rows
    assert ["2", "close", "approve", "approve", "by", "ann"] in rows
    assert f"\n  holdfast approvals approve {THREAD}\n" in out
    assert f"edit {THREAD} --action 1 --args '{{\"amount\": 2.5}}'\n" in out
    assert f"reject {THREAD} --action 1 --message 'why'\n" in out
    assert "--action 2" not in out


def test_an_edit_shows_the_lines_it_changes() -> None:
    action = Action("send", {"reply": "Hello,\nyour lamp\nKim", "to": "ann"}, None, frozenset({"edit"}))
    lines = edit_diff(action, {"reply": "Hello,\nyour new lamp\nKim", "to": "bob"})
    assert [line for line in lines[2:] if line[0] in "+-"] == [
        "-  your lamp",
        "+  your new lamp",
        "-to: ann",
        "+to: bob",
    ]
    assert edit_diff(action, {"to": "ann"}) == []


def test_an_edit_that_changes_but_the_type_or_what_nobody_sees_shows() -> None:
    action = Action("pay", {"amount": 2, "to": "ann", "text": "a\nb"}, None, frozenset({"edit"}))
    assert edit_diff(action, {"amount": "2"})[-2:] == ["-amount: 2", '+amount: "2"']
    assert edit_diff(action, {"text": "a\nb\n"})
    assert edit_diff(action, {"text": "a\rb"})[-1] == "+text: a\rb"


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_list_shows_whole_ids_however_long_the_names_and_narrow_the_terminal(
    width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Output(as_json=False)
    output.answers.width = width
    names = {
        "action": "refund, " * 9,
        "graph_id": "a-desk-with-a-long-name-indeed",
        "description": "Pay? " * 50,
    }
    show_list(output, [approval(), approval(**names)])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == [THREAD, THREAD]
    assert rows[0][1:4] == ["support", "send_reply", "unknown"]


def test_a_lost_outcome_tells_the_request_id(capsys: pytest.CaptureFixture[str]) -> None:
    end_with(errors.OutcomeUnknownError("x", request_id="r-17"), as_json=False)
    assert "--request-id r-17" in capsys.readouterr().err


def test_ctrl_c_tells_that_the_run_goes_on(serve: Callable[[Answer], str]) -> None:
    waiting = threading.Event()
    run = {"run_id": RUN, "thread_id": THREAD, "assistant_id": "a", "status": "running", "metadata": {}}

    def answer(method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/threads":
            return 200, {**body, "created_at": datetime.now(UTC).isoformat()}
        if path.endswith("/join"):
            waiting.set()
            threading.Event().wait(30)
        return 200, run if method == "POST" or RUN in path else []

    command = subprocess.Popen(
        [sys.executable, "-m", "sdk_client.cli.main", "run", "slow", "hi"],
        env={**os.environ, "HOLDFAST_URL": serve(answer), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell has SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert waiting.wait(30)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=150)
    finally:
        command.kill()
    assert (command.returncode, out) == (130, "")
    assert "the run goes on" in err
    assert f"holdfast watch {THREAD} {RUN}" in err


def row(state: str) -> dict[str, Any]:
    return {"state": state, "status": "success", "last_error": None}


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, {"error": "none"}, "the server has not called the receiver"),
        (200, {"callbacks": [row("received")]}, "not verified yet (received"),
        (200, {"callbacks": [row("unknown")]}, "not verified yet (unknown"),
        (401, {}, "refuses LG_WEBHOOK_TOKEN"),
        (503, {}, "HTTP 503"),
        (200, {"rows": []}, "not understood"),
    ],
)
async def test_a_callback_counts_only_once_it_is_verified(
    status: int, body: object, says: str, serve: Callable[[Answer], str]
) -> None:
    receiver = receiver_at(serve(lambda *_: (status, body)))
    async with receiver:
        with pytest.raises(NoCallbackError, match=says.replace("(", r"\(")):
            await receiver.wait_for(RUN, deadline_seconds=0)


async def test_a_callback_that_came_before_we_looked_is_found(serve: Callable[[Answer], str]) -> None:
    rows = [row("unknown"), row("handled")]
    async with receiver_at(serve(lambda *_: (200, {"callbacks": rows}))) as receiver:
        assert await receiver.wait_for(RUN, deadline_seconds=0) == rows[1]


def receiver_at(url: str) -> Receiver:
    return Receiver(ReceiverSettings(CALLBACKS_URL=AnyHttpUrl(url), LG_WEBHOOK_TOKEN=SecretStr("t" * 16)))


@pytest.mark.parametrize(
    ("width", "thread", "run"), [(160, THREAD, RUN), (100, "4f1d9c1e…", RUN), (70, "4f1d9c1e…", "…61327827")]
)
def test_the_table_fits_its_console(width: int, thread: str, run: str) -> None:
    console = Console(width=width)
    one = Row("support (approved)", "c", thread_id=THREAD, run_id=RUN, status="success")
    with console.capture() as captured:
        console.print(fit([one], console))
    lines = captured.get().splitlines()
    assert lines[-1].split()[2:4] == [thread, run]
    assert max(map(len, lines)) <= width


def test_a_server_that_is_away_is_named_at_once_and_then_seldom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOLDFAST_RETRY_ATTEMPTS", "6")
    monkeypatch.setattr("sdk_client.retry.RetryPolicy.delay_seconds", lambda *_: 0.01)
    assert main(["threads", "inspect", THREAD]) == 5
    tries, *error = capsys.readouterr().err.splitlines()
    assert tries.startswith("http://127.0.0.1:1: ConnectError: ")
    assert error[0].startswith("error: Could not read the thread: the server at http://127.0.0.1:1 is not")
    assert "HOLDFAST_URL" in error[1]
    assert len(error) == 2
    monkeypatch.setattr("sdk_client.cli.execute.QUIET_SECONDS", 0.0)
    main(["threads", "inspect", THREAD])
    assert capsys.readouterr().err.count("trying again") == 5
    assert main(["threads", "inspect", THREAD, "--json"]) == 5
    out, err = capsys.readouterr()
    assert "http://127.0.0.1:1" in json.loads(out)["error"]["message"]
    assert err == ""


@pytest.mark.parametrize(
    ("called", "shown"),
    [
        ("{here}/.venv/bin/holdfast", ".venv/bin/holdfast"),
        ("{here}/on the path/holdfast", "holdfast"),
        ("/else where/holdfast", "'/else where/holdfast'"),
        ("{here}/sdk_client/cli/main.py", "holdfast"),
        (".venv/bin/holdfast", ".venv/bin/holdfast"),
    ],
)
def test_a_hint_names_the_command_as_it_was_called(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, called: str, shown: str
) -> None:
    on_path = tmp_path / "on the path" / "holdfast"
    on_path.parent.mkdir()
    on_path.touch(0o755)
    monkeypatch.setenv("PATH", str(on_path.parent))
    monkeypatch.setattr(sys, "argv", [called.format(here=tmp_path)])
    assert command() == shown
