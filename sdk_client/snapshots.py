"""Reading a thread's state: what it holds, where it stands, what it waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PendingInterrupt:
    """One `interrupt()` that has not been answered."""

    id: str
    node: str
    value: Any
    response_schema: dict[str, Any] | None = None
    """The JSON Schema of an answer, where the graph gave one."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A thread's state at one checkpoint."""

    values: dict[str, Any]
    next: tuple[str, ...]
    """The nodes that would run next; empty when the graph has come to its end."""
    checkpoint_id: str | None
    created_at: str | None
    run_id: str | None
    """The run that wrote the checkpoint."""
    interrupts: tuple[PendingInterrupt, ...]
    task_errors: tuple[str, ...]
    """What nodes raised at this checkpoint, as `Type('message')`."""


def snapshot_of(state: Mapping[str, Any]) -> Snapshot:
    """Read the answer of the server's state and history endpoints."""
    values = state.get("values")
    tasks = [task for task in state.get("tasks") or () if isinstance(task, dict)]
    return Snapshot(
        # A graph whose state is a single value, not a mapping, gets the name LangGraph itself gives to it.
        values=dict(values) if isinstance(values, dict) else ({} if values is None else {"__root__": values}),
        next=tuple(state.get("next") or ()),
        checkpoint_id=(state.get("checkpoint") or {}).get("checkpoint_id"),
        created_at=state.get("created_at"),
        run_id=(state.get("metadata") or {}).get("run_id"),
        interrupts=tuple(
            PendingInterrupt(
                id=str(found["id"]),
                node=str(task.get("name", "")),
                value=found.get("value"),
                response_schema=found.get("response_schema"),
            )
            for task in tasks
            for found in task.get("interrupts") or ()
            if found.get("id")
        ),
        task_errors=tuple(str(task["error"]) for task in tasks if task.get("error")),
    )
