"""The goals: ratios of sides within one round, so that they mean the same on any machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.results import Measured, Report


@dataclass(frozen=True)
class Goal:
    """`side` against `other` under one load."""

    title: str
    side: str
    other: str
    clients: int
    figure: Callable[[Measured], float | None]
    limit: float
    at_least: bool
    """Whether the ratio must not be below the limit, or not above it."""
    case: str = "thread_wait"


@dataclass(frozen=True)
class Outcome:
    """A goal and the ratio that was measured."""

    goal: Goal
    ratio: float | None
    """Of the round that speaks most against it; None: one of the two was not measured."""

    @property
    def verdict(self) -> str:
        """Met, missed by how much, or not measured."""
        if self.ratio is None:
            return "not measured"
        goal = self.goal
        if self.ratio >= goal.limit if goal.at_least else self.ratio <= goal.limit:
            return "met"
        return f"missed by {abs(self.ratio / goal.limit - 1):.0%}"


def _rate(row: Measured) -> float | None:
    return row.per_second or None


def _p50(row: Measured) -> float | None:
    return row.p50_seconds


GOALS = (
    Goal("throughput, 50 clients, against the in-memory server", "shared", "dev", 50, _rate, 0.8, True),
    Goal("throughput, 50 clients, against Aegra", "shared", "aegra", 50, _rate, 2.5, True),
    Goal("p50, 1 client, against the bare graph", "shared", "bare", 1, _p50, 4.0, False),
    Goal("p50, 1 client, against the in-memory server", "shared", "dev", 1, _p50, 1 / 20, False),
    Goal("throughput, 50 clients, isolated loops against shared", "isolated", "shared", 50, _rate, 0.8, True),
)


def judge(report: Report) -> list[Outcome]:
    """Compare a report with the goals."""
    return [Outcome(goal, _ratio(report, goal)) for goal in GOALS]


def _ratio(report: Report, goal: Goal) -> float | None:
    ours = report.rows(goal.side, goal.case, goal.clients)
    theirs = {row.round: row for row in report.rows(goal.other, goal.case, goal.clients)}
    ratios = []
    for row in ours:
        if row.round in theirs:
            mine, other = goal.figure(row), goal.figure(theirs[row.round])
            if mine is not None and other:
                ratios.append(mine / other)
    # Not the median: the in-memory server slows down as it fills, which would flatter the others.
    worst = min if goal.at_least else max
    return worst(ratios, default=None)
