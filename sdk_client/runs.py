"""Waiting for a run and reading what became of it.

The server's own join returns the state of the *thread*: after a cancelled run that looks like an answer,
and after a later run it is that run's. So the join here is only the wait; the verdict is the run's own
status, and the values are those of the last checkpoint this run wrote.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from sdk_client.errors import (
    ApprovalNeededError,
    DeadlineExceededError,
    HoldfastError,
    PlatformUnavailableError,
    RefusedError,
    RunCancelledError,
    RunFailedError,
    RunTimedOutError,
)
from sdk_client.models import RunHandle, RunResult
from sdk_client.pauses import approvals_in
from sdk_client.snapshots import Snapshot, snapshot_of
from sdk_client.transport import Transport

ENDLESS = math.inf
"""The deadline of whatever a wait for a run asks: only the caller ends it, be the server away or not."""
_LONGEST_POLL_SECONDS = 20.0
_LONGEST_QUEUE_SECONDS = 5.0
_SHORTEST_POLL_SECONDS = 0.2
_ENDED = frozenset({"success", "error", "timeout", "interrupted"})
_RAISED_AS = re.compile(r"^(?P<type>[A-Za-z_][\w.]*)\((?P<message>.*)\)$", re.DOTALL)


class EndForgottenError(Exception):
    """The run had ended, and goes on: a database that lacks its end took over while its result was read."""


class Runs:
    """Wait for runs, read their results, cancel them."""

    def __init__(self, transport: Transport) -> None:
        """Use the transport's connections and retry policy."""
        self._transport = transport

    async def wait_until_ready(self, timeout_seconds: float) -> None:
        """Ask `/ok` until it answers."""
        started = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(max(0.1, timeout_seconds - (time.monotonic() - started))):
                    answer = await self._transport.http.get("/ok")
                if answer.status_code == 200:
                    return
                seen = f"HTTP {answer.status_code}"
            except (httpx.HTTPError, TimeoutError) as error:
                seen = type(error).__name__
            if time.monotonic() - started >= timeout_seconds:
                raise PlatformUnavailableError(
                    f"The server at {self._transport.address} was not ready "
                    f"within {timeout_seconds:g} s ({seen})"
                )
            await asyncio.sleep(_SHORTEST_POLL_SECONDS)

    async def join(self, handle: RunHandle, *, deadline_seconds: float | None = None) -> RunResult:
        """Wait for the run to end and return its result; see `Client.join`."""
        ids = _ids(handle)
        try:
            async with asyncio.timeout(deadline_seconds):
                while True:
                    run = await self._wait(handle)
                    with suppress(EndForgottenError):
                        return await self.outcome(handle, run)
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"The run's result was not there within {deadline_seconds:g} s; the run is not touched by"
                " that, join it again",
                **ids,
            ) from error

    async def status(self, handle: RunHandle, *, deadline_seconds: float | None = None) -> dict[str, Any]:
        """Read the run."""
        run: Mapping[str, Any] = await self._transport.call(
            "read the run",
            lambda: self._transport.sdk.runs.get(handle.thread_id, handle.run_id),
            deadline_seconds=deadline_seconds,
            **_ids(handle),
        )
        return dict(run)

    async def _wait(self, handle: RunHandle) -> dict[str, Any]:
        while not has_ended(run := await self.status(handle, deadline_seconds=ENDLESS)):
            started = time.monotonic()
            await self._transport.call(
                "wait for the run",
                lambda: self._poll(handle),
                deadline_seconds=ENDLESS,
                holds_open=True,
                **_ids(handle),
            )
            # The server ends a poll when a run's attempt ends, which is not always the end of the run.
            if time.monotonic() - started < _SHORTEST_POLL_SECONDS:
                await asyncio.sleep(_SHORTEST_POLL_SECONDS / 4)
        return run

    async def _poll(self, handle: RunHandle) -> None:
        """Hold one long poll open until the server ends it, or for a slice of the retry policy's deadline."""
        path = f"/threads/{quote(handle.thread_id)}/runs/{quote(handle.run_id)}/join"
        slice_seconds = min(_LONGEST_POLL_SECONDS, self._transport.policy.deadline_seconds / 2)
        async with self._transport.long_polls.take(_LONGEST_QUEUE_SECONDS) as has_turn:
            if not has_turn:
                return  # the caller asks for the status and queues again
            try:
                async with (
                    asyncio.timeout(slice_seconds),
                    self._transport.held.stream("GET", path) as answer,
                ):
                    if answer.is_error:
                        await answer.aread()
                        answer.raise_for_status()
                    async for _ in answer.aiter_raw():
                        pass  # blank lines while the run goes on, then the thread's state, not the run's
            except TimeoutError:
                return  # the run goes on; the caller asks again

    async def outcome(self, handle: RunHandle, run: Mapping[str, Any]) -> RunResult:
        """Read the result of a run that has ended, or raise what it ended with.

        Raises:
            EndForgottenError: It has not ended any more; wait again.
        """
        ids = _ids(handle)
        status = str(run["status"])
        snapshot, newest = await self._own_snapshot(handle)
        if status != "success":
            raise await self._failure(handle, status, snapshot, newest)
        if snapshot is None:
            raise HoldfastError(
                "The run succeeded without writing a checkpoint, and a later run has moved the thread on, "
                "so its values are not known",
                **ids,
            )
        if snapshot.next:
            approvals = approvals_in(
                snapshot,
                thread_id=handle.thread_id,
                assistant_id=handle.assistant_id,
                graph_id=_graph_of(run),
            )
            raise ApprovalNeededError(
                f"The run waits for a human before {', '.join(snapshot.next)}",
                approvals=approvals,
                values=snapshot.values,
                **ids,
            )
        return RunResult(
            run_id=handle.run_id,
            thread_id=handle.thread_id,
            request_id=handle.request_id,
            status=status,
            values=snapshot.values,
            seconds=_seconds_between(run.get("created_at"), run.get("updated_at")),
        )

    async def cancel(self, handle: RunHandle) -> None:
        """Stop the run; see `Client.cancel`."""
        if has_ended(await self.status(handle)):
            return
        try:
            await self._transport.call(
                "cancel the run",
                lambda: self._transport.sdk.runs.cancel(handle.thread_id, handle.run_id),
                **_ids(handle),
            )
        except RefusedError:
            # The server refuses to cancel a run that ended meanwhile; anything else is a refusal indeed.
            if not has_ended(await self.status(handle)):
                raise

    async def _own_snapshot(self, handle: RunHandle) -> tuple[Snapshot | None, bool]:
        """Find the last state that this run left at its end; and whether it is the thread's newest."""
        sdk, ids = self._transport.sdk, {**_ids(handle), "deadline_seconds": ENDLESS}
        history = await self._transport.call(
            "read the run's checkpoint",
            lambda: sdk.threads.get_history(handle.thread_id, limit=1, metadata={"run_id": handle.run_id}),
            **ids,
        )
        runs = await self._transport.call(
            "read the thread's runs",
            lambda: sdk.runs.list(handle.thread_id, limit=1, select=["run_id", "status"]),
            **ids,
        )
        newest = bool(runs) and str(runs[0]["run_id"]) == handle.run_id
        if newest and not has_ended(runs[0]):
            raise EndForgottenError
        if history:
            return snapshot_of(history[0]), newest
        if not newest:
            return None, False
        # A run that was resumed into the next interrupt of the same node writes no checkpoint of its own.
        state = await self._transport.call(
            "read the thread's state", lambda: sdk.threads.get_state(handle.thread_id), **ids
        )
        return snapshot_of(state), True

    async def _failure(
        self, handle: RunHandle, status: str, snapshot: Snapshot | None, newest: bool
    ) -> RunFailedError:
        error_type, message = None, None
        if newest:  # the thread keeps the error of its newest run only
            thread = await self._transport.call(
                "read the thread",
                lambda: self._transport.sdk.threads.get(handle.thread_id),
                deadline_seconds=ENDLESS,
                **_ids(handle),
            )
            error_type, message = _error_in(thread.get("error"))
        if error_type is None and snapshot and snapshot.task_errors:
            error_type, message = _error_in(snapshot.task_errors[0])
        known: dict[str, Any] = {
            "status": status,
            "error_type": error_type,
            "error_message": message,
            **_ids(handle),
        }
        if status == "timeout":
            return RunTimedOutError("The server stopped the run at its time limit", **known)
        if status == "interrupted":
            return RunCancelledError("The run was cancelled", **known)
        reason = f"{error_type}: {message}" if error_type else "the server no longer knows with what"
        return RunFailedError(f"The run failed: {reason}", **known)


def has_ended(run: Mapping[str, Any]) -> bool:
    """Tell whether a run, as the server returns it, has come to its end."""
    return run.get("status") in _ENDED


def _ids(handle: RunHandle) -> dict[str, Any]:
    return {"run_id": handle.run_id, "thread_id": handle.thread_id, "request_id": handle.request_id}


def _graph_of(run: Mapping[str, Any]) -> str | None:
    return (run.get("metadata") or {}).get("graph_id")


def _error_in(error: Any) -> tuple[str | None, str | None]:
    """Read an error as the server keeps it: an object on the thread, a repr on a task."""
    if isinstance(error, dict):
        return error.get("error"), error.get("message")
    if not error:
        return None, None
    if found := _RAISED_AS.match(str(error)):
        return found["type"], found["message"].rstrip(",").strip("'\"")
    return "Error", str(error)


def _seconds_between(start: str | None, end: str | None) -> float:
    if not start or not end:
        return 0.0
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
