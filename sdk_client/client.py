"""The client: one object, a handful of verbs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Literal

import httpx

from sdk_client.approvals import Approvals
from sdk_client.claims import Claims
from sdk_client.errors import ConfigurationError
from sdk_client.models import RunHandle, RunResult, StreamEvent, StreamGap
from sdk_client.retry import RetryPolicy
from sdk_client.runs import Runs
from sdk_client.settings import ClientSettings
from sdk_client.streams import Streams
from sdk_client.submission import Submission
from sdk_client.threads import Threads
from sdk_client.tracing import note_run, operation
from sdk_client.transport import CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS, Transport

MultitaskStrategy = Literal["enqueue", "reject", "interrupt", "rollback"]
Durability = Literal["sync", "async", "exit"]


class Client:
    """A typed client of one LangGraph server.

    Use it as an async context manager, and share it within one event loop. `approvals` decides on runs that
    wait for a human, `threads` looks into a thread.
    """

    approvals: Approvals
    threads: Threads

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        retry: RetryPolicy | None = None,
        webhook_url: str | None = None,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        """Set up the client; nothing is sent yet.

        Args:
            url: The server's address.
            api_key: Sent as `x-api-key`.
            retry: How persistent each call is; see `RetryPolicy`.
            webhook_url: Where the server reports the end of runs that name no webhook.
            connect_timeout_seconds: How long a connection may take to open.
            read_timeout_seconds: How long the server may be silent; above its 5 s heartbeat.
            http_client: An own httpx client, with base URL, headers and a transport that does not retry. It
                is used as it is and not closed.

        Raises:
            ConfigurationError: The address is not an http or https URL.
        """
        self._transport = Transport(
            url,
            api_key=api_key,
            retry=retry,
            connect_timeout_seconds=connect_timeout_seconds,
            read_timeout_seconds=read_timeout_seconds,
            http_client=http_client,
        )
        claims = Claims(self._transport)
        self._webhook_url = webhook_url
        self._submission = Submission(self._transport, claims)
        self._runs = Runs(self._transport)
        self._streams = Streams(self._transport, self._runs)
        self.approvals = Approvals(self._transport, self._submission, claims)
        self.threads = Threads(self._transport)

    @classmethod
    def from_env(cls, settings: ClientSettings | None = None) -> Client:
        """Build the client from HOLDFAST_URL, HOLDFAST_API_KEY and the rest of `ClientSettings`.

        Raises:
            ConfigurationError: A variable is missing or wrong.
        """
        found = settings or ClientSettings.from_env()
        return cls(
            str(found.url),
            api_key=found.api_key.get_secret_value() if found.api_key else None,
            retry=RetryPolicy(attempts=found.retry_attempts, deadline_seconds=found.retry_deadline_seconds),
            webhook_url=str(found.webhook_url) if found.webhook_url else None,
            connect_timeout_seconds=found.connect_timeout_seconds,
            read_timeout_seconds=found.read_timeout_seconds,
        )

    async def __aenter__(self) -> Client:
        """Return the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def wait_until_ready(self, *, timeout_seconds: float = 60.0) -> None:
        """Wait until the server answers.

        Raises:
            PlatformUnavailableError: It did not within the time.
        """
        await self._runs.wait_until_ready(timeout_seconds)

    async def submit(
        self,
        assistant_id: str,
        input: Mapping[str, Any] | None,
        *,
        conversation_id: str | None = None,
        request_id: str | None = None,
        stream_mode: Sequence[str] = ("values",),
        stream_subgraphs: bool = False,
        multitask_strategy: MultitaskStrategy = "enqueue",
        metadata: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        webhook: str | None = None,
        durability: Durability = "sync",
        interrupt_before: Sequence[str] | None = None,
        interrupt_after: Sequence[str] | None = None,
    ) -> RunHandle:
        """Create a run, exactly once, and return without waiting for it.

        Args:
            assistant_id: The graph's name in langgraph.json, or an assistant's UUID.
            input: The graph's input.
            conversation_id: The caller's name for the conversation; the same name is the same thread.
                Without one the run gets a thread of its own.
            request_id: The caller's name for this request. The same name twice is the same run, also from two
                processes at once. Without one the client makes one up, which protects this call alone.
            stream_mode: What `stream` and `watch` can deliver. For tokens use "messages-tuple".
            stream_subgraphs: Deliver the events of subgraphs as well.
            multitask_strategy: What to do while another run holds the thread.
            metadata: Kept with the run, beside `request_id`.
            config: The run's config (tags, recursion_limit, configurable).
            context: The run's static context; not together with `config["configurable"]`.
            webhook: Where the server reports the end of this run.
            durability: When checkpoints are written. "sync": a step begins when the one before it is
                saved, so a crash repeats no finished step; "async", the API's own default, leaves a gap.
            interrupt_before: Nodes to pause before.
            interrupt_after: Nodes to pause after.

        Raises:
            ConfigurationError: The stream mode is "messages", which cannot be delivered safely.
            RefusedError: The server or the request id said no (also AuthenticationError, NotFoundError).
            ThreadBusyError: The thread is busy and the strategy is "reject".
            PlatformUnavailableError: The server could not be reached; no run was created.
            OutcomeUnknownError: It may have been created; submit again with the error's `request_id`.
        """
        if "messages" in stream_mode:
            raise ConfigurationError(
                'The server does not keep the events of stream mode "messages", so they could be lost; '
                'use "messages-tuple"'
            )
        arguments: dict[str, Any] = {
            "input": dict(input) if input is not None else None,
            "stream_mode": list(stream_mode),
            "stream_subgraphs": stream_subgraphs,
            "stream_resumable": True,  # so that anybody can attach and reconnect without losing an event
            "multitask_strategy": multitask_strategy,
            "config": dict(config) if config is not None else None,
            "context": dict(context) if context is not None else None,
            "webhook": webhook or self._webhook_url,
            "durability": durability,
            "interrupt_before": list(interrupt_before) if interrupt_before is not None else None,
            "interrupt_after": list(interrupt_after) if interrupt_after is not None else None,
        }
        with operation("submit"):
            handle = await self._submission.submit(
                assistant_id,
                {name: value for name, value in arguments.items() if value is not None},
                conversation_id=conversation_id,
                request_id=request_id,
                metadata=metadata,
            )
            note_run(handle)
            return handle

    async def join(self, handle: RunHandle, *, deadline_seconds: float | None = None) -> RunResult:
        """Wait for a run to end and return its result, whatever happens to the server meanwhile.

        Args:
            handle: The run.
            deadline_seconds: How long to wait; for ever if left out, also for a server that is away.

        Raises:
            RunFailedError: The run ended in error (RunTimedOutError, RunCancelledError).
            ApprovalNeededError: The run paused for a human.
            DeadlineExceededError: The time is over; the run goes on.
            PlatformUnavailableError: The attempts are used up, where the retry policy bounds them.
            NotFoundError: There is no such run (deleted, or rolled back).
        """
        with operation("join"):
            note_run(handle)
            return await self._runs.join(handle, deadline_seconds=deadline_seconds)

    async def run(
        self,
        assistant_id: str,
        input: Mapping[str, Any] | None,
        *,
        deadline_seconds: float | None = None,
        **options: Any,
    ) -> RunResult:
        """Submit and join. Takes the options of `submit` and raises what both raise."""
        with operation("run"):
            handle = await self.submit(assistant_id, input, **options)
            note_run(handle)
            return await self.join(handle, deadline_seconds=deadline_seconds)

    async def stream(
        self,
        assistant_id: str,
        input: Mapping[str, Any] | None,
        **options: Any,
    ) -> AsyncGenerator[StreamEvent | StreamGap | RunResult, None]:
        """Submit, deliver every event from the first one on, and at the end the result.

        Takes the options of `submit`. A cut connection is taken up again without losing or repeating an
        event.

        Raises:
            HoldfastError: What `submit` and `join` raise, the latter after the last event.
        """
        handle = await self.submit(assistant_id, input, **options)
        async with aclosing(self.watch(handle)) as items:
            async for item in items:
                yield item

    def watch(self, handle: RunHandle) -> AsyncGenerator[StreamEvent | StreamGap | RunResult, None]:
        """Deliver the events of an existing run from its first one on, and at the end the result.

        The server holds events for a limited time; where some are gone a StreamGap stands in their place.
        Leaving before the end? Use `contextlib.aclosing`, which closes the connection at once.

        Raises:
            HoldfastError: What `join` raises, after the last event.
        """
        return self._streams.watch(handle)

    async def cancel(self, handle: RunHandle) -> None:
        """Stop a run; one that has ended already stays as it ended.

        Raises:
            NotFoundError: There is no such run.
        """
        await self._runs.cancel(handle)
