"""What is asked of the client process and what it answers; both cross a pipe as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Load:
    """So many clients, each with one request after another, against one target."""

    target: str
    """The server's address; for the bare graph the address of its database."""
    case: str
    """A name of `cases.CASES`; for the bare graph of `bare.SAVERS`."""
    clients: int
    seconds: float
    """How long is measured; longer where by then not every client can have had its turn."""
    warm_up_seconds: float
    """How long the clients are at work before that; longer likewise."""


@dataclass
class Seen:
    """What the clients saw."""

    seconds: float = 0.0
    """How long was measured."""
    completed: int = 0
    """Right answers that came while it was measured."""
    wrong: int = 0
    failed: int = 0
    faults: list[str] = field(default_factory=list)
    """The first few wrong answers and errors, in words; warm-up included."""
    latencies_seconds: list[float] = field(default_factory=list)
    """Of right answers to requests that began while it was measured."""
    first_event_seconds: list[float] = field(default_factory=list)
    events: int = 0
    client_cpu_seconds: float = 0.0
