"""What the client hands back about a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RunHandle:
    """The ids by which a run is found again, from any process."""

    run_id: str
    thread_id: str
    request_id: str | None
    """What the caller named the request; None for a run that another client made."""
    assistant_id: str


@dataclass(frozen=True, slots=True)
class RunResult:
    """The answer of a run that ended well."""

    run_id: str
    thread_id: str
    request_id: str | None
    status: str
    """Always "success": every other end is raised as an error."""
    values: dict[str, Any]
    """The graph's state at this run's own last checkpoint, whatever later runs made of the thread."""
    seconds: float
    """From the run's creation to its end by the server's clock, time in the queue included."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a run's stream, as the server sent it."""

    event: str
    """The stream mode ("values", "updates", "custom", "messages", ...), or "metadata" for the first one."""
    data: Any
    id: str | None
    """The position in the stream; None when the run was not created as resumable."""


@dataclass(frozen=True, slots=True)
class StreamGap:
    """Stands in a stream where events are missing because the server no longer holds them."""

    reason: str
