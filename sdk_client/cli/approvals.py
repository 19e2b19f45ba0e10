"""`holdfast approvals`: list what waits for a human, look at it, and decide."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.table import Table

from sdk_client.answers import checked_answer
from sdk_client.cli.execute import AsJson, execute, on_interrupt, watch_command
from sdk_client.cli.inputs import read_object, refuse_constant
from sdk_client.cli.output import Output, command, plain_table, printable
from sdk_client.cli.pauses import edit_diff, show_pause
from sdk_client.cli.render import age
from sdk_client.cli.runs import Deadline, check_uuid, wait_for
from sdk_client.client import Client
from sdk_client.errors import ConfigurationError, RefusedError
from sdk_client.pauses import Approval, DecisionType

app = typer.Typer(
    help="List what waits for a human, and decide on it, each exactly once.", no_args_is_help=True
)

LONGEST_NAME = 24
"""Columns of an agent's or an action's name in the list."""
GAP = 3
"""Columns that rich leaves between two of a table."""

Thread = Annotated[str, typer.Argument(metavar="THREAD", help="The thread that waits.")]
By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who decides; your user name if left out.")
]
Pause = Annotated[
    str | None, typer.Option("--pause", metavar="ID", help="Which pause, where a thread has several.")
]
Number = Annotated[
    int | None,
    typer.Option(
        "--action",
        metavar="N",
        min=1,
        help="Which action, where a pause has several; all that are open else.",
    ),
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
        show_list(output, waiting)
        if len(waiting) == limit:
            output.note(f"There may be more than {limit}; --limit shows them.")
        output.note(f"Look at one with: {command()} approvals show THREAD")

    execute(context, as_json, work)


@app.command()
def show(context: typer.Context, thread: Thread, as_json: AsJson = False) -> None:
    """Show what a thread waits for, and the commands that decide on it."""

    async def work(client: Client, output: Output) -> None:
        waiting = await client.approvals.waiting_on(check_uuid(thread, "thread"))
        several = [approval for approval in waiting if len(approval.actions) > 1]
        decided = {one.pause_id: await client.approvals.decided(one) for one in several}
        output.document({"waiting": waiting, "decided": decided})
        if not as_json and not waiting:
            output.say("The thread waits for nobody.")
        elif not as_json:
            show_pause(output, waiting, decided)

    execute(context, as_json, work)


@app.command()
def approve(
    context: typer.Context,
    thread: Thread,
    by: By = None,
    pause: Pause = None,
    action: Number = None,
    no_wait: NoWait = False,
    deadline: Deadline = None,
    as_json: AsJson = False,
) -> None:
    """Let it happen as proposed, and wait for the answer."""
    made = Made("approve", lambda: None, pause, action, by)
    _decide(context, as_json, thread, made, no_wait, deadline)


@app.command()
def edit(
    context: typer.Context,
    thread: Thread,
    args: Annotated[
        str, typer.Option("--args", metavar="FILE|-|JSON", help="The arguments to change: an object.")
    ],
    by: By = None,
    pause: Pause = None,
    action: Number = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what the edit changes, and send nothing.")
    ] = False,
    no_wait: NoWait = False,
    deadline: Deadline = None,
    as_json: AsJson = False,
) -> None:
    """Let it happen with other arguments, and wait for the answer; those not named stay as proposed."""
    made = Made("edit", lambda: read_object(args, "--args"), pause, action, by)
    _decide(context, as_json, thread, made, no_wait, deadline, dry_run=dry_run)


@app.command()
def reject(
    context: typer.Context,
    thread: Thread,
    message: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why, for the agent to read; some then try again.")
    ] = None,
    by: By = None,
    pause: Pause = None,
    action: Number = None,
    no_wait: NoWait = False,
    deadline: Deadline = None,
    as_json: AsJson = False,
) -> None:
    """Do not let it happen."""
    made = Made("reject", lambda: message, pause, action, by)
    _decide(context, as_json, thread, made, no_wait, deadline)


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
    action: Number = None,
    no_wait: NoWait = False,
    deadline: Deadline = None,
    as_json: AsJson = False,
) -> None:
    """Answer in words: the agent tries again, or takes it as the answer to its question."""
    made = Made("respond", lambda: _answer(text, value), pause, action, by)
    _decide(context, as_json, thread, made, no_wait, deadline)


@app.command()
def reopen(
    context: typer.Context,
    thread: Thread,
    by: By = None,
    deadline: Deadline = None,
    as_json: AsJson = False,
) -> None:
    """Ask again where a wrong answer, sent by another interface, or a stopped run ended the pause."""

    async def work(client: Client, output: Output) -> None:
        thread_id = check_uuid(thread, "thread")
        run = await client.approvals.reopen(thread_id, reopened_by=by or _user_name())
        output.note(f"asking again on thread {thread_id}")
        await wait_for(client, output, run, deadline, live=False)

    execute(context, as_json, work)


@dataclass(frozen=True)
class Made:
    """A decision, as the command line has it."""

    decision: DecisionType
    read_value: Callable[[], Any]
    pause_id: str | None
    number: int | None
    by: str | None

    @property
    def index(self) -> int | None:
        """Which action, from 0."""
        return None if self.number is None else self.number - 1


def _decide(
    context: typer.Context,
    as_json: bool,
    thread: str,
    made: Made,
    no_wait: bool,
    deadline_seconds: float | None,
    *,
    dry_run: bool = False,
) -> None:
    async def work(client: Client, output: Output) -> None:
        thread_id = check_uuid(thread, "thread")
        value, name = made.read_value(), made.by or _user_name()
        with on_interrupt(
            "interrupted while deciding; "
            f"`{command()} approvals show {thread_id}` tells whether it still waits",
            thread_id=thread_id,
        ):
            target = await _choose(client, thread_id, made.pause_id)
            if made.decision == "edit" and isinstance(target, Approval):
                _show_edit(output, target, made.index, value, dry_run=dry_run)
            elif dry_run:
                raise RefusedError("The thread is not waiting for a decision", thread_id=thread_id)
            if dry_run:
                return
            done = await client.approvals.decide(
                target, made.decision, value, decided_by=name, action=made.index
            )
        output.note(f"{name} decided {made.decision!r} on thread {thread_id}")
        if done.open_actions:
            output.document(done)
            still_open = ", ".join(str(index + 1) for index in done.open_actions)
            output.say(f"The run goes on once the rest is decided too; still open: action {still_open}.")
        elif done.run is None:
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


def _show_edit(output: Output, pause: Approval, index: int | None, value: Any, *, dry_run: bool) -> None:
    """Print what an edit changes; raises RefusedError where it is none for this pause."""
    answer = checked_answer(pause, index, "edit", value)
    lines = edit_diff(pause.actions[index or 0], value) or ["The edit changes nothing."]
    for line in lines:
        (output.say if dry_run else output.note)(line)
    if dry_run:
        output.document({"edited": answer.value, "changes": lines})
        output.note("Nothing was sent; without --dry-run it is decided.")


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
        return json.loads(value, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--value is not JSON: {error}") from error


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:  # a container whose user id has no name
        raise ConfigurationError("your user has no name here; say who decides with --by NAME") from error


def show_list(output: Output, waiting: Sequence[Approval]) -> None:
    """Print a line for each pause; a narrow terminal folds it, since the next command needs the whole id."""
    rows = _rows(waiting)
    before = sum(max(map(cell_len, column)) + GAP for column in [*zip(*rows, strict=True)][:-1])
    output.answers.width = max(output.answers.width, before)
    output.answers.print(_table(rows, output.answers.width - before))


def _rows(waiting: Sequence[Approval]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("thread", "agent", "action", "waiting", "what")]
    for one in waiting:
        names = (one.graph_id or one.assistant_id, one.action, " ".join((one.description or "").split()))
        agent, action, what = map(printable, names)
        short = (_cut(agent, LONGEST_NAME), _cut(action, LONGEST_NAME))
        rows.append((one.thread_id, *short, age(one.created_at), what))
    return rows


def _table(rows: Sequence[Sequence[str]], width_of_what: int) -> Table:
    table = plain_table()
    for name in rows[0]:
        table.add_column(name, no_wrap=True)
    for row in rows[1:]:
        # Cut here, since rich would cut the ids along with it.
        table.add_row(*row[:-1], _cut(row[-1], width_of_what))
    return table


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)) + "…" * (width > 0)
