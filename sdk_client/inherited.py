"""What a run that goes on from a pause takes over from the run that paused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sdk_client.begun import runs_begun
from sdk_client.transport import Transport

_OF_CONFIG: Final = ("recursion_limit", "max_concurrency", "tags")


async def inherited(transport: Transport, thread_id: str) -> dict[str, Any]:
    """Read the arguments of a resuming run from the run that paused; its command is not among them."""
    runs = transport.sdk.runs
    newest = await runs_begun(transport, thread_id, ["run_id"])
    # One that failed after it has not paused, and may have failed for what it was given.
    ended_well = [run for run in newest if run["status"] == "success"]
    paused: Mapping[str, Any] = {}
    if found := ended_well or newest:
        paused = await transport.call(
            "read the paused run", lambda: runs.get(thread_id, found[0]["run_id"]), thread_id=thread_id
        )
    given: Mapping[str, Any] = paused.get("kwargs") or {}
    config: Mapping[str, Any] = given.get("config") or {}
    # The context has what was given as `configurable` too, and only one of them may be sent.
    context = {
        key: kept
        for key, kept in (given.get("context") or {}).items()
        if not key.startswith(("__", "langgraph_"))
    }
    arguments = {
        "stream_mode": given.get("stream_mode"),
        "webhook": given.get("webhook"),
        "config": {name: config[name] for name in _OF_CONFIG if config.get(name)},
        "context": context,
        "stream_resumable": True,
        "durability": "sync",
        "multitask_strategy": "enqueue",
    }
    return {name: kept for name, kept in arguments.items() if kept}
