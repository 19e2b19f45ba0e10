"""Runs what a command does, and turns every way it can end into a message and an exit code."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from sdk_client.cli.output import ExitCode, Interrupted, Output, command, exit_code
from sdk_client.cli.pauses import show_pause
from sdk_client.cli.tracing import send_traces
from sdk_client.client import Client
from sdk_client.errors import (
    ApprovalNeededError,
    DeadlineExceededError,
    HoldfastError,
    OutcomeUnknownError,
    PlatformUnavailableError,
    RunFailedError,
)
from sdk_client.models import RunHandle
from sdk_client.tracing import operation

AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output and nothing else, errors included.")
]

QUIET_SECONDS = 10.0
"""After a line about a call that is tried again, until the next one about the same trouble."""

Work = Callable[[Client, Output], Awaitable[ExitCode | None]]
"""What a command does with an open client; None stands for success."""


def execute(context: typer.Context, as_json: bool, work: Work, *, json_lines: bool = False) -> None:
    """Do a command's work and end with its exit code; no traceback leaves without --debug.

    Args:
        context: Carries --debug from before the command's name.
        as_json: The command's --json.
        work: What to do.
        json_lines: Whether this command's JSON form is one document a line; an error is its last line then.
    """
    output = Output(as_json=as_json, debug=bool(context.obj))
    _tell_of_retries(output)
    if untraced := send_traces(output.note):
        output.note(untraced)
    try:
        code = asyncio.run(_with_client(work, output, context.command_path)) or ExitCode.OK
    except HoldfastError as error:
        code = exit_code(error)
        if isinstance(error, ApprovalNeededError) and not as_json:
            show_pause(output, error.approvals)
            output.note(f"run {error.run_id} · thread {error.thread_id} · paused")
        else:
            output.error(error, cure_for(error), in_stream=json_lines)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
        output.error(Interrupted("interrupted"), in_stream=json_lines)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`). Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.OK
    except Exception as error:  # a mistake of ours must not look like one of the user's
        code = ExitCode.BUG
        fault = HoldfastError(
            f"a fault of this command, not of your run: {type(error).__name__}: {error}; "
            "HOLDFAST_DEBUG=1 shows where"
        )
        output.error(fault, in_stream=json_lines)
    raise typer.Exit(code)


def _tell_of_retries(output: Output) -> None:
    # Left to itself stamina logs them, through structlog on standard output, in the middle of our JSON.
    told_at: dict[str, float] = {}

    def tell(details: RetryDetails) -> None:
        address, cause = _address(details.caused_by), type(details.caused_by).__name__
        told, now = f"{address}{cause}", time.monotonic()
        # Calls at once, tried every few seconds for minutes, are one trouble: a line now and then tells it.
        if now - told_at.get(told, -math.inf) >= QUIET_SECONDS:
            told_at[told] = now
            output.note(f"{address}{cause}: {details.caused_by}; trying again")

    set_on_retry_hooks([tell])


def _address(error: Exception) -> str:
    try:
        url = getattr(error, "request", None) and error.request.url  # type: ignore[attr-defined]
    except RuntimeError:  # httpx: it was raised without one
        return ""
    return f"{url.scheme}://{url.netloc.decode()}: " if url else ""


async def _with_client(work: Work, output: Output, name: str) -> ExitCode | None:
    with operation(name):
        async with Client.from_env() as client:
            return await work(client, output)


@contextmanager
def outlived_by(handle: RunHandle) -> Iterator[None]:
    """Wait for a run inside this block: Ctrl-C then says that the run goes on, and how to see it again."""
    with on_interrupt(
        "you stopped waiting; the run goes on", run_id=handle.run_id, thread_id=handle.thread_id
    ):
        yield


@contextmanager
def on_interrupt(message: str, **ids: Any) -> Iterator[None]:
    """Have Ctrl-C inside this block end the command with this message, and the ids of what goes on."""
    try:
        yield
    except asyncio.CancelledError:
        raise Interrupted(message, **ids) from None


def cure_for(error: HoldfastError) -> str | None:
    """The command to type next, where there is one."""
    if isinstance(error, OutcomeUnknownError) or (isinstance(error, Interrupted) and error.request_id):
        return f"The same command with --request-id {error.request_id} finds the run, or creates it once."
    if isinstance(error, DeadlineExceededError | Interrupted) and error.run_id and error.thread_id:
        return f"See it again with: {watch_command(error.run_id, error.thread_id)}"
    if isinstance(error, RunFailedError) and error.thread_id:
        return f"Look into it with: {command()} threads inspect {error.thread_id}"
    if isinstance(error, PlatformUnavailableError):
        return "Is it running (`make run`), and is HOLDFAST_URL its address (the receiver's: CALLBACKS_URL)?"
    return None


def watch_command(run_id: str, thread_id: str) -> str:
    """The command that attaches to a run."""
    return f"{command()} watch {thread_id} {run_id}"
