"""What was measured: one row a measurement, kept as JSON, and the medians of the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError


@dataclass(frozen=True)
class Measured:
    """One side under one load in one round."""

    side: str
    case: str
    clients: int
    round: int
    seconds: float
    completed: int
    wrong: int
    failed: int
    faults: list[str]
    per_second: float
    p50_seconds: float | None
    """None: no request both began and ended while it was measured."""
    p95_seconds: float | None
    p99_seconds: float | None
    first_event_p50_seconds: float | None
    events_per_second: float
    """Of all clients together."""
    processor_seconds_per_request: dict[str, float]
    """By part: server, postgres, valkey, client."""
    other_cores: float
    """How many cores were busy with anything else. Should be none: they spoil the figures."""


@dataclass(frozen=True)
class Growth:
    """A thread of many turns on one side: medians over blocks of turns."""

    side: str
    turns: list[int]
    """The last turn of each block."""
    p50_seconds: list[float]
    bytes_per_turn: list[float]
    """What the database grew by, indexes included; empty where there is none."""


@dataclass(frozen=True)
class Search:
    """One search among many threads, seen by one client."""

    name: str
    threads: int
    p50_seconds: float
    p95_seconds: float


@dataclass(frozen=True)
class Drain:
    """A deep queue that one server works off."""

    runs: int
    create_per_second: float
    """How fast the requests that fill it are answered."""
    per_second: list[float]
    """Runs that ended in each second."""
    claim_p50_seconds: list[float]
    """What the statement that takes the next run costs, at each depth of `depths`."""
    depths: list[int]
    wrong: int


@dataclass
class Report:
    """All of one run of the benchmark."""

    date: str
    machine: str
    versions: dict[str, str]
    sides: dict[str, str]
    """The labels by name, in the order of the tables; those that are not here carry the reason."""
    absent: dict[str, str]
    rounds: int
    seconds: float
    measured: list[Measured] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    search: list[Search] = field(default_factory=list)
    drain: list[Drain] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Keep it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(TypeAdapter(Report).dump_json(self, indent=1))

    @classmethod
    def read(cls, path: Path) -> Report | None:
        """Read what `write` wrote; None when nothing was, or by another version of this module."""
        try:
            return TypeAdapter(Report).validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def rows(self, side: str, case: str, clients: int) -> list[Measured]:
        """The rounds of one side under one load, in order. The bare graph's only case stands for any."""
        return sorted(
            (
                row
                for row in self.measured
                if row.side == side and row.clients == clients and case in (row.case, ANY_CASE.get(row.case))
            ),
            key=lambda row: row.round,
        )


# The bare graph has no server to ask: what it does is what thread_wait does.
ANY_CASE = {"bare_one_saver": "thread_wait", "bare_saver_per_run": "thread_wait"}


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value below which that share of them lies; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def median(values: Iterable[float | None]) -> float | None:
    """The median of those that are there; None of none."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
