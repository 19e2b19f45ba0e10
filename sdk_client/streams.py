"""Delivering a run's events, each once, over connections that may be cut at any byte.

The SDK's own stream reconnects from the exact last id, which loses events (see `cursor.py`), so the
connection is made here, with the SDK's decoder. A stream that closes cleanly can mean the end of the run or
a proxy's time limit: it counts as the end only if the run had ended before the connection was opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from urllib.parse import quote

import h11
import httpx
import stamina
from langgraph_sdk.sse import SSEDecoder, aiter_lines_raw

from sdk_client.cursor import Cursor, Verdict, content_of
from sdk_client.models import RunHandle, RunResult, StreamEvent, StreamGap
from sdk_client.runs import ENDLESS, EndForgottenError, Runs, has_ended
from sdk_client.transport import Transport

_QUIET_SECONDS = 0.5  # a replay comes without pauses, so silence means it is over


class Streams:
    """Streams of runs."""

    def __init__(self, transport: Transport, runs: Runs) -> None:
        """Use the transport's connections and retry policy, and read results through `runs`."""
        self._transport = transport
        self._runs = runs

    async def watch(self, handle: RunHandle) -> AsyncGenerator[StreamEvent | StreamGap | RunResult, None]:
        """Deliver the run's events and then its result; see `Client.watch`."""
        cursor = Cursor()
        failures, told_of_gap = 0, False
        while True:
            ended_before = has_ended(run := await self._runs.status(handle, deadline_seconds=ENDLESS))
            error: Exception | None = None
            silent = True
            cursor.connect()
            try:
                async with aclosing(self._connection(handle, cursor.resume_from)) as events:
                    async for event in events:
                        silent = False
                        verdict = await self._verdict(handle, cursor, event)
                        if verdict is Verdict.SKIP:
                            continue
                        if verdict is Verdict.GAP:
                            told_of_gap = True
                            yield StreamGap(_GAP)
                        cursor.advance(event)
                        failures = 0
                        yield event
            except (httpx.HTTPError, h11.ProtocolError) as fault:
                error = fault
            if error is None and ended_before:
                if (cursor.owes_repetition or not cursor.started) and not told_of_gap:
                    yield StreamGap(_GAP)
                with suppress(EndForgottenError):
                    yield await self._runs.outcome(handle, run)
                    return
            if error is not None:
                failures += 1
                await self._pause_or_raise(handle, error, failures)
            elif silent:
                await asyncio.sleep(
                    _QUIET_SECONDS
                )  # a proxy that closes at once must not be asked in a hot loop

    async def _verdict(self, handle: RunHandle, cursor: Cursor, event: StreamEvent) -> Verdict:
        verdict = cursor.judge(event)
        if verdict is Verdict.ASK:
            return cursor.settle(event, await self._stored_under(handle, cursor))
        return verdict

    async def _pause_or_raise(self, handle: RunHandle, error: Exception, failures: int) -> None:
        """Wait before the next connection, unless the error is final or the policy's attempts are used up."""
        policy = self._transport.policy
        pause = policy.pause_seconds(error, failures)
        if pause is None or (policy.attempts is not None and failures >= policy.attempts):
            raise self._transport.explain(
                "follow the run",
                error,
                run_id=handle.run_id,
                thread_id=handle.thread_id,
                request_id=handle.request_id,
                attempts=failures,
            ) from error
        await asyncio.sleep(0.0 if stamina.is_testing() else pause)

    async def _stored_under(self, handle: RunHandle, cursor: Cursor) -> list[str]:
        """Read anew what the server holds under the cursor's last id."""
        stored: list[str] = []
        try:
            async with aclosing(self._connection(handle, cursor.resume_from)) as events:
                while True:
                    async with asyncio.timeout(_QUIET_SECONDS):
                        event = await anext(events)
                    if event.id == cursor.last_id:
                        stored.append(content_of(event))
                    elif stored:
                        break
        except (TimeoutError, StopAsyncIteration):
            pass  # the replay is over: nothing newer has been published yet
        return stored

    async def _connection(self, handle: RunHandle, last_event_id: str) -> AsyncGenerator[StreamEvent, None]:
        """Yield what one connection brings; ends when the server closes it.

        Raises:
            httpx.HTTPError: The connection was refused or cut.
        """
        path = f"/threads/{quote(handle.thread_id)}/runs/{quote(handle.run_id)}/stream"
        headers = {"accept": "text/event-stream", "cache-control": "no-store", "last-event-id": last_event_id}
        async with self._transport.held.stream("GET", path, headers=headers) as answer:
            if answer.is_error:
                await answer.aread()
                answer.raise_for_status()
            decoder, has_id = SSEDecoder(), False
            async for line in aiter_lines_raw(answer):
                text = bytes(line).rstrip(b"\r\n")
                has_id |= text.startswith(b"id:")
                part = decoder.decode(text)
                # An error event is not kept by the server, so it has no place in the stream; the run's own
                # status tells of it afterwards.
                if part is not None and part.event and part.event not in ("error", "end"):
                    # The decoder gives an event without an id that of the one before it.
                    yield StreamEvent(part.event, part.data, part.id if has_id else None)
                has_id = has_id and part is None


_GAP = "the server no longer holds all events of this run; its result is not affected"
