"""Looking into a thread: what it holds, what it waits for, and why it may be stuck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sdk_client.pauses import Approval, approvals_in
from sdk_client.snapshots import Snapshot, snapshot_of
from sdk_client.submission import REQUEST_ID_KEY
from sdk_client.transport import Transport


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run of the thread."""

    run_id: str
    status: str
    request_id: str | None
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True)
class ThreadReport:
    """What a person needs to see of a thread."""

    thread_id: str
    status: str
    """idle, busy, interrupted or error."""
    graph_id: str | None
    diagnosis: str
    """One line: what is the matter, and what to do."""
    next: tuple[str, ...]
    """The nodes that would run next."""
    value_bytes: dict[str, int]
    """The size of each value as JSON; the values themselves may be confidential."""
    checkpoint_id: str | None
    checkpoint_created_at: str | None
    waiting: tuple[Approval, ...]
    runs: tuple[RunSummary, ...]
    """The newest first."""
    error: str | None
    """What the newest run failed with."""


class Threads:
    """Reads threads; changes nothing."""

    def __init__(self, transport: Transport) -> None:
        """Use the transport's connections and retry policy."""
        self._transport = transport

    async def inspect(self, thread_id: str, *, run_limit: int = 10) -> ThreadReport:
        """Report on a thread.

        Args:
            thread_id: The thread.
            run_limit: How many of its runs to list.

        Raises:
            NotFoundError: There is no such thread.
        """
        sdk = self._transport.sdk
        thread: Mapping[str, Any] = await self._transport.call(
            "read the thread", lambda: sdk.threads.get(thread_id), thread_id=thread_id
        )
        found = await self._transport.call(
            "read the thread's runs",
            lambda: sdk.runs.list(
                thread_id,
                limit=run_limit,
                select=["run_id", "assistant_id", "status", "metadata", "created_at", "updated_at"],
            ),
            thread_id=thread_id,
        )
        state = await self._transport.call(
            "read the thread's state", lambda: sdk.threads.get_state(thread_id), thread_id=thread_id
        )
        snapshot = snapshot_of(state)
        runs = tuple(_summary(run) for run in found)
        metadata = thread.get("metadata") or {}
        paused = thread["status"] == "interrupted" and bool(runs) and runs[0].status == "success"
        waiting = (
            approvals_in(
                snapshot,
                thread_id=thread_id,
                assistant_id=str(found[0]["assistant_id"]),
                graph_id=metadata.get("graph_id"),
            )
            if paused
            else ()
        )
        error = _error_line(thread.get("error"), snapshot) if runs and runs[0].status != "success" else None
        return ThreadReport(
            thread_id=thread_id,
            status=str(thread["status"]),
            graph_id=metadata.get("graph_id"),
            diagnosis=_diagnose(str(thread["status"]), snapshot, waiting, runs, error),
            next=snapshot.next,
            value_bytes={name: _json_bytes(value) for name, value in snapshot.values.items()},
            checkpoint_id=snapshot.checkpoint_id,
            checkpoint_created_at=snapshot.created_at,
            waiting=waiting,
            runs=runs,
            error=error,
        )


def _summary(run: Mapping[str, Any]) -> RunSummary:
    return RunSummary(
        run_id=str(run["run_id"]),
        status=str(run["status"]),
        request_id=(run.get("metadata") or {}).get(REQUEST_ID_KEY),
        created_at=str(run["created_at"]),
        updated_at=str(run["updated_at"]),
    )


def _json_bytes(value: Any) -> int:
    return len(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))


def _error_line(error: Any, snapshot: Snapshot) -> str | None:
    if isinstance(error, dict):
        return f"{error.get('error')}: {error.get('message')}"
    return snapshot.task_errors[0] if snapshot.task_errors else None


def _diagnose(
    status: str,
    snapshot: Snapshot,
    waiting: tuple[Approval, ...],
    runs: tuple[RunSummary, ...],
    error: str | None,
) -> str:
    nodes = ", ".join(snapshot.next)
    if not runs:
        return "No run has been made on this thread."
    newest = runs[0]
    if waiting:
        actions = ", ".join(pause.action for pause in waiting)
        return f"Waits for a human to decide on: {actions}. Decide with approvals."
    in_flight = [run for run in runs if run.status in ("pending", "running")]
    if in_flight:
        oldest = in_flight[-1]
        queued = f", {len(in_flight) - 1} more behind it" if len(in_flight) > 1 else ""
        if oldest.status == "pending":
            return f"Run {oldest.run_id} waits for a worker since {oldest.created_at}{queued}."
        return (
            f"Run {oldest.run_id} is running since {oldest.created_at}, next: {nodes or 'unknown'}{queued}."
        )
    if newest.status == "interrupted":
        return f"The newest run was cancelled before {nodes or 'its end'}; a new run starts from there."
    if newest.status in ("error", "timeout"):
        where = nodes or "the graph"
        return f"The newest run failed in {where}: {error or newest.status}. Mend the cause and run again."
    if snapshot.next:
        return f"Stopped before {nodes} with nothing in flight; a run without input goes on from there."
    return "Nothing is the matter: the last run ended well."
