"""`holdfast approvals`: list what waits for a human, look at it, and decide."""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from sdk_client.cli.execute import AsJson, execute, on_interrupt, watch_command
from sdk_client.cli.inputs import read_object
from sdk_client.cli.output import Output, plain_table, printable
from sdk_client.cli.render import age, show_pause
from sdk_client.cli.runs import Deadline, check_uuid, wait_for
from sdk_client.client import Client
from sdk_client.errors import ConfigurationError, RefusedError
from sdk_client.pauses import Approval, DecisionType

app = typer.Typer(
    help="List what waits for a human, and decide on it, each exactly once.", no_args_is_help=True
)

WIDTH_BEFORE_WHAT = 72
"""Columns that thread, agent, action and age take at most, as agents are usually named."""

Thread = Annotated[str, typer.Argument(metavar="THREAD", help="The thread that waits.")]
By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who decides; your user name if left out.")
]
Pause = Annotated[
    str | None, typer.Option("--pause", metavar="ID", help="Which pause, where a thread has several.")
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Do not wait for the run that carries out the decision.")
]


@app.command("list")
def list_waiting(
    context: typer.Context,
    agent: Annotated[str | None, typer.Option(metavar="AGENT", help="Only of this agent.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the runs that wait for a human."""

    async def work(client: Client, output: Output) -> None:
        waiting = await client.approvals.list_waiting(agent, limit=limit)
        output.document({"waiting": waiting})
        if as_json:
            return
        if not waiting:
            output.say("Nothing waits for a human.")
            return
        output.answers.print(_table(waiting, output.answers.width))
        if len(waiting) == limit:
            output.note(f"There may be more than {limit}; --limit shows them.")
        output.note("Look at one with: holdfast approvals show THREAD")

    execute(context, as_json, work)


@app.command()
def show(context: typer.Context, thread: Thread, as_json: AsJson = False) -> None:
    """Show what a thread waits for, and the commands that decide on it."""

    async def work(client: Client, output: Output) -> None:
        waiting = await client.approvals.waiting_on(check_uuid(thread, "thread"))
        output.document({"waiting": waiting})
        if not as_json and not waiting:
            output.say("The thread waits for nobody.")
        elif not as_json:
            show_pause(output, waiting)

    execute(context, as_json, work)


@app.command()
def approve(
    context: typer.Context,
    thread: Thread,
    by: By = None,
    pause: Pause = None,
    no_wait: NoWait = False,
    deadline: Deadline = None,
    as_json: AsJson = False,
) -> None:
    """Let it happen as proposed, and wait for the answer."""
    _decide(context, as_json, thread, pause, "accept", lambda: None, by, no_wait, deadline)


@app.command()
def edit(
    context: typer.Context,
    thread: Thread,
    args: Annotated[
        str, typer.Option("--args", metavar="FILE|-|JSON", help="The arguments to use: an object.")
    ],
    by: By = None,
    pause: Pause = None,
    no_wait: NoWait = False,
    deadline: Deadline = None,
    as_json: AsJson = False,
) -> None:
    """Let it happen with other arguments, and wait for the answer."""
    _decide(
        context, as_json, thread, pause, "edit", lambda: read_object(args, "--args"), by, no_wait, deadline
    )


@app.command()
def reject(
    context: typer.Context,
    thread: Thread,
    by: By = None,
    pause: Pause = None,
    no_wait: NoWait = False,
    deadline: Deadline = None,
    as_json: AsJson = False,
) -> None:
    """Do not let it happen."""
    _decide(context, as_json, thread, pause, "ignore", lambda: None, by, no_wait, deadline)


@app.command()
def respond(
    context: typer.Context,
    thread: Thread,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="Your answer, in words.")] = None,
    value: Annotated[
        str | None, typer.Option(metavar="JSON", help="Your answer as JSON, where the agent asks for such.")
    ] = None,
    by: By = None,
    pause: Pause = None,
    no_wait: NoWait = False,
    deadline: Deadline = None,
    as_json: AsJson = False,
) -> None:
    """Answer in words: the agent tries again, or takes it as the answer to its question."""
    _decide(context, as_json, thread, pause, "respond", lambda: _answer(text, value), by, no_wait, deadline)


def _decide(
    context: typer.Context,
    as_json: bool,
    thread: str,
    pause_id: str | None,
    decision: DecisionType,
    read_value: Any,
    by: str | None,
    no_wait: bool,
    deadline_seconds: float | None,
) -> None:
    async def work(client: Client, output: Output) -> None:
        thread_id = check_uuid(thread, "thread")
        value, name = read_value(), by or _user_name()
        with on_interrupt(
            f"interrupted while deciding; `holdfast approvals show {thread_id}` tells whether it still waits",
            thread_id=thread_id,
        ):
            target = await _choose(client, thread_id, pause_id)
            done = await client.approvals.decide(target, decision, value, decided_by=name)
        output.note(f"{name} decided {decision!r} on thread {thread_id}")
        if done.run is None:
            output.document(done)
            output.say("The thread has ended where it waited; nothing more runs.")
        elif no_wait:
            output.document(done)
            output.say(f"run      {done.run.run_id}")
            output.note(f"See it with: {watch_command(done.run.run_id, thread_id)}")
        else:
            live = output.progress.is_terminal and not as_json
            await wait_for(client, output, done.run, deadline_seconds, live=live)

    execute(context, as_json, work)


async def _choose(client: Client, thread_id: str, pause_id: str | None) -> Approval | str:
    """The pause that is meant; the thread where there is none, since the client knows who decided then."""
    waiting = await client.approvals.waiting_on(thread_id)
    known = ", ".join(approval.pause_id for approval in waiting)
    if pause_id is None:
        if len(waiting) > 1:
            raise RefusedError(
                f"The thread waits for {len(waiting)} decisions; choose one with --pause: {known}",
                thread_id=thread_id,
            )
        return waiting[0] if waiting else thread_id
    for approval in waiting:
        if approval.pause_id == pause_id:
            return approval
    raise RefusedError(
        f"The thread does not wait at pause {pause_id}; its pauses are: {known or 'none'}",
        thread_id=thread_id,
    )


def _answer(text: str | None, value: str | None) -> Any:
    if (text is None) == (value is None):
        raise ConfigurationError("give either a TEXT or --value")
    if value is None:
        return text
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--value is not JSON: {error}") from error


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:  # a container whose user id has no name
        raise ConfigurationError("your user has no name here; say who decides with --by NAME") from error


def _table(waiting: Sequence[Approval], width: int) -> Table:
    table = plain_table()
    for name in ("thread", "agent", "action", "waiting", "what"):
        table.add_column(name, no_wrap=True)
    for one in waiting:
        what = " ".join((one.description or "").split())
        table.add_row(
            one.thread_id,
            printable(one.graph_id or one.assistant_id),
            printable(one.action),
            age(one.created_at),
            # Cut here, since rich would cut the ids along with it.
            printable(what)[: max(0, width - WIDTH_BEFORE_WHAT)],
        )
    return table
