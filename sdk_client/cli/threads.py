"""`holdfast threads inspect`: why a thread is where it is."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from sdk_client.cli.execute import AsJson, execute
from sdk_client.cli.output import Output, plain_table, printable
from sdk_client.cli.pauses import show_pause
from sdk_client.cli.render import moment
from sdk_client.cli.runs import Conversation, check_uuid
from sdk_client.client import Client
from sdk_client.errors import ConfigurationError
from sdk_client.identity import thread_id_for
from sdk_client.threads import RunSummary, ThreadReport

app = typer.Typer(help="Look into threads.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    # Without it typer would make a lone command the whole of `holdfast threads`.
    pass


@app.command()
def inspect(
    context: typer.Context,
    thread: Annotated[str | None, typer.Argument(metavar="THREAD", help="The thread.")] = None,
    conversation: Conversation = None,
    run_limit: Annotated[int, typer.Option("--runs", min=1, max=1000, help="How many runs to list.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Report on a thread: what is the matter first, then its state, its runs and what it waits for."""

    async def work(client: Client, output: Output) -> None:
        if (thread is None) == (conversation is None):
            raise ConfigurationError("give either a THREAD or --conversation")
        thread_id = (
            thread_id_for(conversation) if conversation is not None else check_uuid(thread or "", "thread")
        )
        report = await client.threads.inspect(thread_id, run_limit=run_limit)
        output.document(report)
        if not as_json:
            _show(output, report)

    execute(context, as_json, work)


def _show(output: Output, report: ThreadReport) -> None:
    output.answers.print(Text(printable(report.diagnosis), style="bold"), soft_wrap=True)
    output.say()
    checkpoint = f"{report.checkpoint_id} of {moment(report.checkpoint_created_at)}"
    facts = {
        "thread": report.thread_id,
        "agent": report.graph_id or "none yet",
        "status": report.status,
        "next": ", ".join(report.next) or "nothing",
        "checkpoint": checkpoint if report.checkpoint_id else "none",
        "values": ", ".join(f"{name} {_size(size)}" for name, size in report.value_bytes.items()) or "none",
    }
    if report.error:
        facts["error"] = report.error
    for name, fact in facts.items():
        output.say(f"{name:<12}{fact}")
    if report.runs:
        output.say()
        output.answers.print(_runs_table(report.runs))
    if report.waiting:
        output.say()
        show_pause(output, report.waiting)


def _runs_table(runs: tuple[RunSummary, ...]) -> Table:
    table = plain_table()
    table.add_column("run", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("created", no_wrap=True)
    table.add_column("request", overflow="fold")
    for run in runs:
        table.add_row(run.run_id, run.status, moment(run.created_at), printable(run.request_id or ""))
    return table


def _size(size_bytes: int) -> str:
    return f"{size_bytes} B" if size_bytes < 1000 else f"{size_bytes / 1000:.1f} kB"
