"""What every agent builds on: intake, middleware, off-loading, effects, policies, the data folder."""

from __future__ import annotations

import base64
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from langchain.agents import create_agent
from langchain_core.exceptions import ModelAuthenticationError, ModelConnectionError
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolRuntime
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt

from graphs.kit.attachments import File, take_files
from graphs.kit.context import Context
from graphs.kit.datafolder import read_data_file
from graphs.kit.delegate import sub_agent
from graphs.kit.effects import once
from graphs.kit.failures import ModelFailedError
from graphs.kit.findings import found
from graphs.kit.intake import MAX_PROMPT_CHARACTERS, Intake
from graphs.kit.middleware import standard
from graphs.kit.model import named_model
from graphs.kit.offline import Call, OfflineChatModel, Rule, in_order, tool_outputs
from graphs.kit.offload import OffloadTimeoutError, in_process, in_thread
from graphs.kit.policies import is_transient
from graphs.kit.problems import InputProblem
from graphs.kit.state import AgentState, ToolAgentState
from graphs.kit.turn import Turn


@tool
async def halve(value: int, runtime: ToolRuntime[Any, Any]) -> Command[Any]:
    """Halve an even number."""
    if value % 2:
        raise InputProblem("odd", f"{value} is odd.", "Send an even number.")
    return found(runtime, "half", {"value": value // 2}, f"half is {value // 2}")


def halver(value: int) -> CompiledStateGraph[Any, Any, Any, Any]:
    async def check(state: dict[str, Any], turn: Turn) -> dict[str, Any]:
        return {}

    rule = in_order(Call("halve", value=value), then=lambda said: f"Done: {tool_outputs(said)['halve']}.")
    middleware = [
        Intake(check, keys=["number"], accept=lambda file: file.json_object(["number"])),
        *standard(),
    ]
    return create_agent(
        OfflineChatModel(rule=rule),
        [halve],
        middleware=middleware,
        state_schema=ToolAgentState,
        context_schema=Context,
    )


async def test_an_agent_calls_its_tool_and_counts_what_it_spent(no_blocking: None) -> None:
    state = await halver(8).ainvoke({"messages": [{"role": "user", "content": "please"}]})
    assert state["result"] == {"half": {"value": 4}}
    assert state["problem"] is None
    assert state["messages"][-1].text == "Done: half is 4."
    assert state["usage"] == {"model_calls": 2, "tool_calls": 1, "input_tokens": 0, "output_tokens": 0}


async def test_a_tools_problem_is_an_answer_and_the_next_turn_is_clean(no_blocking: None) -> None:
    graph = halver(7)
    graph.checkpointer = InMemorySaver()
    config: Any = {"configurable": {"thread_id": "t"}}
    state = await graph.ainvoke({"messages": [{"role": "user", "content": "one"}]}, config)
    assert state["problem"] == {"code": "odd", "message": "7 is odd.", "cure": "Send an even number."}
    assert state["messages"][-1].text == "7 is odd. Send an even number."

    better = halver(6)
    better.checkpointer = graph.checkpointer
    state = await better.ainvoke({"messages": []}, config)  # data only, no message: still a turn of its own
    assert state["problem"] is None
    assert state["result"] == {"half": {"value": 3}}
    assert state["usage"]["model_calls"] == 2


async def test_a_sub_agent_spends_from_the_budget_of_its_run(no_blocking: None) -> None:
    @tool
    async def look() -> str:
        """Look around."""
        return "Nothing yet."

    asked: list[str] = []

    def asks_for(name: str, **args: Any) -> Rule:
        def rule(messages: Any) -> Call:
            asked.append(name)
            return Call(name, **args)

        return rule

    helper = sub_agent(
        "helper",
        "Looks.",
        prompt="Look.",
        tools=[look],
        script=asks_for("look"),
        state_schema=ToolAgentState,
        reads=(),
    )
    agent = create_agent(
        OfflineChatModel(rule=asks_for("helper", task="Look.")),
        [helper],
        middleware=standard(),
        state_schema=ToolAgentState,
        context_schema=Context,
    )
    given: Any = {"messages": [HumanMessage("Look for ever.")]}
    state = await agent.ainvoke(given, context=Context(max_model_calls=5))
    assert state["problem"]["code"] == "budget_spent"
    assert state["usage"]["model_calls"] == len(asked) == 5


async def test_a_prompt_of_a_megabyte_is_answered_and_not_kept(no_blocking: None) -> None:
    state = await halver(8).ainvoke({"messages": [{"role": "user", "content": "x" * 1_000_000}]})
    assert state["problem"]["code"] == "prompt_too_long"
    assert sum(len(message.text) for message in state["messages"]) < MAX_PROMPT_CHARACTERS


BASE64 = base64.b64encode(b"a,b").decode()
BLOCKS: list[dict[str, Any]] = [
    {"type": "file", "base64": BASE64, "mime_type": "text/csv", "extras": {"filename": "t.csv"}},
    {"type": "file", "source_type": "base64", "data": BASE64, "filename": "t.csv"},
    {"type": "file", "data": BASE64, "mimeType": "text/csv", "metadata": {"filename": "t.csv"}},
    {"type": "file", "file": {"filename": "t.csv", "file_data": f"data:text/csv;base64,{BASE64}"}},
    {"type": "document", "source": {"type": "text", "data": "a,b"}, "title": "t.csv"},
    {"type": "text-plain", "text": "a,b", "title": "t.csv"},
    {"type": "input_file", "filename": "../../t.csv", "file_data": f"data:text/csv;base64,{BASE64}"},
    {"type": "media", "mime_type": "text/csv", "data": BASE64, "name": "C:\\t.csv"},
    {"type": "file", "url": f"data:text/csv;base64,{BASE64}", "extras": {"filename": "t.csv"}},
    {"type": "file", "filename": "t.csv", "file_data": "data:text/csv,a%2Cb"},
    {"type": "file", "filename": "t.csv", "base64": f"{BASE64[:2]}\n{BASE64[2:].rstrip('=')}"},
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_file_is_read_as_each_interface_sends_it(block: dict[str, Any]) -> None:
    content: Any = [{"type": "text", "text": "Average b?"}, block]
    files, [message], problem = take_files([HumanMessage(content, id="m")])
    assert (files, problem) == ([File("t.csv", b"a,b")], None)
    assert (message.id, message.text) == ("m", "Average b?\n[attached: t.csv]")


@pytest.mark.parametrize(
    "about", [{"metadata": "t.csv"}, {"extras": ["t.csv"]}, {"file": "t.csv"}, {"base64": "é"}]
)
def test_a_file_block_of_no_use_is_never_a_crash(about: dict[str, Any]) -> None:
    content: Any = [{"type": "file", "data": "?", **about}]
    _, _, problem = take_files([HumanMessage(content)])
    assert "is not in base64" in str(problem)


def test_a_long_word_is_looked_through_at_once() -> None:
    for word in ("a" * MAX_PROMPT_CHARACTERS, "a." * (MAX_PROMPT_CHARACTERS // 2)):
        began = time.monotonic()
        assert Turn([HumanMessage(word)], {}, {}).named_file(".json") is None
        assert time.monotonic() - began < 5  # minutes, if each character were a beginning
    said = [HumanMessage("See (plans/a-b.JSON).")]
    assert Turn(said, {}, {}).named_file(".json") == "plans/a-b.JSON"


async def test_work_past_its_limit_is_ended(no_blocking: None) -> None:
    released = threading.Event()
    with pytest.raises(OffloadTimeoutError, match=r"wait did not finish within 0\.05 s"):
        await in_thread(released.wait, timeout_seconds=0.05)
    released.set()
    with pytest.raises(OffloadTimeoutError):
        await in_process(signal.pause, timeout_seconds=0.05)


async def test_a_cancelled_run_kills_its_process(no_blocking: None) -> None:
    pid = await in_process(os.getpid)  # the idle worker that the next call takes
    async with anyio.create_task_group() as group:
        group.start_soon(in_process, signal.pause)
        await anyio.sleep(0.1)
        group.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_an_effect_is_done_once_though_its_node_runs_twice() -> None:
    done: list[str] = []

    async def send(key: str) -> dict[str, Any]:
        done.append(key)
        return {"sent": len(done)}

    async def node(state: AgentState, runtime: Runtime[Any]) -> AgentState:
        receipt = await once(runtime, "send", send)
        interrupt("approve?")
        return {"result": receipt}

    builder = StateGraph(AgentState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    graph = builder.compile(checkpointer=InMemorySaver(), store=InMemoryStore())
    config: Any = {"configurable": {"thread_id": "t"}}
    await graph.ainvoke({"messages": []}, config)
    state = await graph.ainvoke(Command(resume="yes"), config)
    assert state["result"] == {"sent": 1}
    assert len(done) == 1


def http_error(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://localhost")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (httpx.ConnectError("refused"), True),
        (httpx2.ReadError("lost"), True),
        (ModelConnectionError(), True),
        (ModelAuthenticationError(), False),
        (ConnectionResetError(), True),
        (http_error(503), True),
        (http_error(429), True),
        (http_error(400), False),
        (ValueError("bug"), False),
        (OffloadTimeoutError("f", 1.0), False),
    ],
)
def test_only_transient_faults_are_retried(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient
    wrapped = RuntimeError("wrapped by a client library")
    wrapped.__cause__ = error
    assert is_transient(wrapped) is transient


@pytest.fixture
def secret_beside_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "table.csv").write_bytes(b"a\n1\n")
    (tmp_path / "secret").write_bytes(b"s")
    (folder / "link").symlink_to(tmp_path / "secret")
    monkeypatch.setenv("HOLDFAST_DATA_DIR", str(folder))
    return tmp_path / "secret"


async def test_files_outside_the_data_folder_are_refused(
    secret_beside_data_folder: Path, no_blocking: None
) -> None:
    assert await read_data_file("table.csv") == b"a\n1\n"
    for path in ("../secret", str(secret_beside_data_folder), "link", ".", "missing", "nul\0", "x" * 5000):
        with pytest.raises(InputProblem):
            await read_data_file(path)
    with pytest.raises(InputProblem, match="is the most"):
        await read_data_file("table.csv", max_bytes=2)


async def test_a_model_whose_package_is_missing_names_it_and_where_it_belongs() -> None:
    with pytest.raises(ModelFailedError, match=r"the package langchain-mistralai.*add it to pyproject\.toml"):
        await named_model("mistralai:one")
