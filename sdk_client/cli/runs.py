"""`holdfast run`, `holdfast submit` and `holdfast watch`."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Annotated, Any
from uuid import UUID

import typer

from sdk_client.cli.execute import AsJson, execute, on_interrupt, outlived_by, watch_command
from sdk_client.cli.find import find_run
from sdk_client.cli.inputs import build_input
from sdk_client.cli.output import Output
from sdk_client.cli.progress import STREAM_MODES, Progress
from sdk_client.cli.render import show_result
from sdk_client.client import Client
from sdk_client.errors import ConfigurationError, DeadlineExceededError
from sdk_client.identity import new_request_id
from sdk_client.models import RunHandle, RunResult

Agent = Annotated[
    str, typer.Argument(metavar="AGENT", help="The agent's name in langgraph.json, or an assistant's id.")
]
Said = Annotated[str | None, typer.Argument(metavar="TEXT", help="What to say to it, as a user message.")]
Source = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="FILE|-|JSON", help="Its other input keys: a file, - for standard input, or JSON."
    ),
]
Conversation = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Your name for the conversation; the same name, the same thread."),
]
RequestId = Annotated[
    str | None, typer.Option(metavar="ID", help="Your name for this request; the same name, the same run.")
]
Webhook = Annotated[
    str | None, typer.Option(metavar="URL", help="Where the server reports the end of the run.")
]
Deadline = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", min=0.1, help="Stop waiting after this long; the run itself goes on."),
]


def run(
    context: typer.Context,
    agent: Agent,
    text: Said = None,
    source: Source = None,
    conversation: Conversation = None,
    request_id: RequestId = None,
    webhook: Webhook = None,
    deadline: Deadline = None,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="Show each step and the text as it is written; the default on a terminal. "
            "With --json: a JSON line for each event.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run an agent and wait for its answer."""

    async def work(client: Client, output: Output) -> None:
        handle = await _submit(client, agent, text, source, conversation, request_id, webhook)
        live = output.progress.is_terminal and not as_json if stream is None else stream
        await wait_for(client, output, handle, deadline, live=live)

    execute(context, as_json, work, json_lines=bool(stream))


def submit(
    context: typer.Context,
    agent: Agent,
    text: Said = None,
    source: Source = None,
    conversation: Conversation = None,
    request_id: RequestId = None,
    webhook: Webhook = None,
    as_json: AsJson = False,
) -> None:
    """Start a run, print its ids and do not wait."""

    async def work(client: Client, output: Output) -> None:
        handle = await _submit(client, agent, text, source, conversation, request_id, webhook)
        output.document(handle)
        output.say(f"run      {handle.run_id}")
        output.say(f"thread   {handle.thread_id}")
        output.say(f"request  {handle.request_id}")
        output.note(f"See it with: {watch_command(handle.run_id, handle.thread_id)}")

    execute(context, as_json, work)


def watch(
    context: typer.Context,
    ids: Annotated[
        list[str],
        typer.Argument(metavar="[THREAD] RUN", help="The run, with or without its thread before it."),
    ],
    thread: Annotated[str | None, typer.Option(metavar="ID", help="The run's thread.")] = None,
    deadline: Deadline = None,
    as_json: AsJson = False,
) -> None:
    """Attach to a run, running or finished, and follow it live to its answer. With --json: JSON lines."""

    async def work(client: Client, output: Output) -> None:
        if len(ids) > 2 or (len(ids) == 2 and thread is not None):
            raise ConfigurationError("give one run: RUN, THREAD RUN, or RUN --thread ID")
        run_id = check_uuid(ids[-1], "run")
        named = thread if len(ids) == 1 else ids[0]
        handle = await find_run(run_id, check_uuid(named, "thread") if named else None)
        await wait_for(client, output, handle, deadline, live=True)

    execute(context, as_json, work, json_lines=True)


async def wait_for(
    client: Client, output: Output, handle: RunHandle, deadline_seconds: float | None, *, live: bool
) -> None:
    """Wait for a run and print its answer, with its events on the way where `live`.

    Raises:
        HoldfastError: How the run ended, unless well; DeadlineExceededError if it has not by the deadline.
    """
    progress = Progress(output, "waiting for the run")
    with outlived_by(handle), progress.shown():
        if live:
            result = await _follow(client, output, handle, deadline_seconds, progress)
        else:
            result = await client.join(handle, deadline_seconds=deadline_seconds)
    if live:
        output.line({"result": result})
    else:
        output.document(result)
    show_result(output, result)


def check_uuid(text: str, what: str) -> str:
    """Check an id before it is sent, since a server's own words about a wrong one help nobody.

    Raises:
        ConfigurationError: It is not a UUID.
    """
    try:
        return str(UUID(text))
    except ValueError as error:
        raise ConfigurationError(
            f"{text!r} is not the id of a {what}: ids look like 0b9c2f1e-5a0d-4c57-9a51-3d7c1f0e8a42"
        ) from error


async def _submit(
    client: Client,
    agent: str,
    text: str | None,
    source: str | None,
    conversation: str | None,
    request_id: str | None,
    webhook: str | None,
) -> RunHandle:
    values: dict[str, Any] = build_input(text, source)
    # Named here, so that a Ctrl-C at the wrong moment can still tell how the run is found.
    name = request_id or new_request_id()
    with on_interrupt("interrupted while the run was being created", request_id=name):
        return await client.submit(
            agent,
            values,
            conversation_id=conversation,
            request_id=name,
            webhook=webhook,
            stream_mode=STREAM_MODES,
            stream_subgraphs=True,
        )


async def _follow(
    client: Client, output: Output, handle: RunHandle, deadline_seconds: float | None, progress: Progress
) -> RunResult:
    output.line({"run": handle})
    try:
        # Closed here and not by the garbage collector, which would do it too late and complain.
        async with asyncio.timeout(deadline_seconds) as limit, aclosing(client.watch(handle)) as items:
            async for item in items:
                if isinstance(item, RunResult):
                    return item
                output.line(item)
                progress.take(item)
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceededError(
            f"the run has not ended within {deadline_seconds:g} s and goes on",
            run_id=handle.run_id,
            thread_id=handle.thread_id,
        ) from None
    raise AssertionError("a stream ends with a result or an error")
