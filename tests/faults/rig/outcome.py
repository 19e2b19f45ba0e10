"""What a scenario found, and what of it is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tests.faults.rig.setup import Durability

Kind = Literal["Postgres", "Network", "Server", "Valkey", "Graph", "Load", "Callbacks"]
"""What breaks."""
_OF_THE_DATABASE: tuple[Kind, ...] = ("Postgres", "Network")
_API_BACK_GOAL_SECONDS = 3.0
_ALL_DONE_GOAL_SECONDS = 10.0
_RECLAIMED_GOAL_SECONDS = 15.0


@dataclass
class Outcome:
    """The figures of one scenario. Times are in seconds from the fault's end, `reclaimed` from the kill."""

    kind: Kind
    scenario: str
    durability: Durability = "sync"
    succeeded: int = 0
    errored: int = 0
    stuck: int = 0
    """Neither ended nor in error when the suite lost its patience."""
    lost: int = 0
    """Confirmed to the caller and not in the database, or never created however long the caller tried."""
    doubled: int = 0
    """Runs beyond the one that was asked for."""
    retried: int = 0
    """Runs that took more than one attempt: those that the fault met and that could not simply go on."""
    completed_twice: int = 0
    """Nodes that ran again although their result was saved. Under "sync" that is so once the run goes on to
    its next node, under "async" once the checkpoint is in the database."""
    in_flight_twice: int = 0
    """Nodes that ran again because the fault came while they, or their checkpoint, were under way."""
    saving_lags: list[float] = field(default_factory=list, repr=False)
    """From each node's end to its checkpoint's commit, in seconds, rising; empty where not measured."""
    replication_is_asynchronous: bool = False
    """A commit that the standby had not yet got is gone with the primary: nobody can promise otherwise."""
    callbacks_missing: int = 0
    callbacks_doubled: int = 0
    """Runs that were called back for more than once; at least once is what is promised."""
    clients_right: int = 0
    clients_told: int = 0
    clients_wrong: int = 0
    stream_gaps: int = 0
    api_back_seconds: float | None = None
    all_done_seconds: float | None = None
    reclaimed_seconds: float | None = None
    remark: str = ""
    """What else was measured, in a few words."""
    evidence: list[str] = field(default_factory=list)
    """What the figures cannot tell: errors of runs and clients, in words."""

    @property
    def name(self) -> str:
        """The scenario with what breaks in it."""
        return f"{self.kind}: {self.scenario}"

    @property
    def runs(self) -> int:
        """Every run that was asked for."""
        return self.succeeded + self.errored + self.stuck + self.lost

    @property
    def saving_seconds(self) -> float | None:
        """Within how long 99 % of the checkpoints were saved."""
        return self.saving_lags[len(self.saving_lags) * 99 // 100] if self.saving_lags else None

    def times(self) -> list[tuple[float | None, float | None]]:
        """Until the API was back, all was done, runs were reclaimed; each with its goal, if it has one."""
        of_database = self.kind in _OF_THE_DATABASE
        return [
            (self.api_back_seconds, _API_BACK_GOAL_SECONDS if of_database else None),
            (self.all_done_seconds, _ALL_DONE_GOAL_SECONDS if of_database else None),
            (self.reclaimed_seconds, None if self.reclaimed_seconds is None else _RECLAIMED_GOAL_SECONDS),
        ]

    def faults(self) -> list[str]:
        """The counts that must be zero and are not, in words."""
        kept = not self.replication_is_asynchronous
        wanted_zero = {
            "runs in error": self.errored,
            "runs stuck": self.stuck,
            "runs lost": self.lost and kept,
            "runs doubled": self.doubled,
            "completed nodes run twice": self.completed_twice and kept,
            "callbacks missing": self.callbacks_missing,
            "clients with a wrong answer": self.clients_wrong,
        }
        return [f"{count} {what}" for what, count in wanted_zero.items() if count]

    def check(self) -> None:
        """Fail if a count is not what is wanted; a time never fails.

        Raises:
            AssertionError: Names the counts, with the evidence.
        """
        faults = self.faults()
        assert not faults, "\n".join([f"{self.name}: {', '.join(faults)}", *self.evidence[:30]])
