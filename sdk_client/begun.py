"""The runs of a thread that have begun, newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from langgraph_sdk.schema import RunSelectField

from sdk_client.transport import Transport

_RECENT: Final = 20


async def runs_begun(
    transport: Transport, thread_id: str, select: Sequence[RunSelectField]
) -> list[Mapping[str, Any]]:
    """List the newest runs of a thread, without those that were put off and have not begun.

    A run with `after_seconds` is dated when it is due, so until then, and for ever if it was cancelled, it is
    listed before runs that came after it. It says nothing of where the thread stands.
    """
    runs: Sequence[Mapping[str, Any]] = await transport.call(
        "read the thread's runs",
        lambda: transport.sdk.runs.list(
            thread_id, limit=_RECENT, select=[*select, "status", "created_at", "updated_at"]
        ),
        thread_id=thread_id,
    )
    return [run for run in runs if not _is_put_off(run)]


def _is_put_off(run: Mapping[str, Any]) -> bool:
    # Both are the server's clock: whoever begins or ends a run dates its last change.
    created_at, updated_at = (datetime.fromisoformat(run[name]) for name in ("created_at", "updated_at"))
    return run["status"] in ("pending", "interrupted") and updated_at < created_at
