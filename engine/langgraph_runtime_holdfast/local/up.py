"""The command: bring the stack up, run a workload against it, serve until told to end."""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Never

import typer
from rich.console import Console
from rich.text import Text

from langgraph_runtime_holdfast.local.endings import ToldToEndError, listen_to_signals, pause
from langgraph_runtime_holdfast.local.errors import LocalStackError
from langgraph_runtime_holdfast.local.servers import DEFAULT_ENGINE, ENGINES
from langgraph_runtime_holdfast.local.settings import LocalSettings
from langgraph_runtime_holdfast.local.stack import RECEIVER, LocalStack

CHECK_SECONDS = 0.1
CANNOT_START = 2
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def command(
    workload: Annotated[list[str] | None, typer.Argument(help="-- and a command to run against it")] = None,
    engine: Annotated[str, typer.Option(help="which server: " + ", ".join(ENGINES))] = DEFAULT_ENGINE,
    config: Annotated[Path, typer.Option(help="langgraph.json")] = Path("langgraph.json"),
    once: Annotated[bool, typer.Option("--once", help="end after the workload, with its exit code")] = False,
    end_with_parent: Annotated[
        bool, typer.Option("--end-with-parent", help="end when its parent has")
    ] = False,
) -> None:
    """Start Postgres, the server and the callback receiver; run a workload; serve until Ctrl-C."""
    unwatched = bool(workload) and not (sys.stdin.isatty() and sys.stdout.isatty())
    serve_on = not (once or unwatched)
    raise typer.Exit(bring_up(config, engine, workload or [], serve_on, end_with_parent))


def bring_up(
    config: Path,
    engine: str,
    workload: Sequence[str],
    serve_on: bool,
    end_with_parent: bool = False,
    receiver: Sequence[str] = RECEIVER,
) -> int:
    """Bring the stack up, run the workload, and, if asked to, serve on after it.

    Args:
        config: langgraph.json.
        engine: a name of servers.ENGINES.
        workload: a command and its arguments; may be empty.
        serve_on: serve after the workload until told to end.
        end_with_parent: end when the process that started this one is gone, as make may be after a kill -9.
        receiver: the callback receiver's command; `--host` and `--port` are added.

    Returns:
        The workload's exit code; 2 if the stack cannot start or a part of it ends; 128 + the number of the
        signal that ended it (a Ctrl-C while serving on is the normal end and leaves the workload's code).
    """
    code = 0
    serving = False
    parent = os.getppid() if end_with_parent else None
    listen_to_signals()
    try:
        settings = LocalSettings.load(config, engine)
        _check_command(workload)
        with LocalStack(settings, receiver, _report) as stack:
            for note in stack.notes:
                console.print(note, style="yellow")
            if workload:
                code = _run_workload(stack, workload, parent)
            if serve_on:
                serving = True
                _serve(stack, code, parent)
    except LocalStackError as error:
        errors.print(Text("error: ", style="bold red").append(str(error), style="default"), soft_wrap=True)
        return CANNOT_START
    except ToldToEndError as told:
        console.print(f"ended by {told.number.name}")
        return code if serving and told.number == signal.SIGINT else 128 + told.number
    return code


def _check_command(workload: Sequence[str]) -> None:
    if workload and shutil.which(workload[0]) is None:
        raise LocalStackError(f"the workload's command {workload[0]} is not installed. Run `make setup`.")


def _run_workload(stack: LocalStack, workload: Sequence[str], parent: int | None) -> int:
    running = stack.start_workload(workload)
    while (code := running.exit_code) is None:
        _check(stack, parent)
        pause(CHECK_SECONDS)
    return code


def _serve(stack: LocalStack, code: int, parent: int | None) -> Never:
    if code:
        errors.print(
            f"the workload ended with exit code {code}; everything stays up for you to look", style="red"
        )
    console.print(f"serving at [bold]{stack.url}[/] (API docs: {stack.url}/docs) · Ctrl-C ends it")
    console.print(f"logs and data: {stack.settings.home}", soft_wrap=True)
    while True:
        _check(stack, parent)
        pause(CHECK_SECONDS)


def _check(stack: LocalStack, parent: int | None) -> None:
    stack.check_alive()
    if parent is not None and os.getppid() != parent:
        raise ToldToEndError(signal.SIGHUP)


def _report(name: str, address: str, seconds: float) -> None:
    console.print(f"[green]up[/]  {name:<18} {address:<26} {seconds:4.1f} s")
