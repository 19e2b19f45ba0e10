"""What a scenario has: servers and what is between them and Postgres, the load, and how runs are saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.faults.rig.valkey import Valkey

Durability = Literal["sync", "async"]
Role = Literal["all", "api", "queue"]


@dataclass(frozen=True)
class Shape:
    """How large the load is, and how much of it is watched."""

    runs: int = 50
    """Background runs, all there before the fault."""
    done: int = 10
    """Once so many of them are done the fault comes; the next ones are then in flight."""
    in_flight: int = 10
    """How many of the next ones are joined and streamed,"""
    last: int = 5
    """and how many of the last ones, which still wait."""
    creating: int = 5
    """Runs created through the fault."""
    megabytes: float = 0.0
    """What each node puts into the state, in place of what the one before it put there."""


LARGE = Shape(runs=12, done=1, in_flight=2, last=0, creating=1, megabytes=10.0)
LARGEST = Shape(runs=4, done=1, in_flight=1, last=0, creating=1, megabytes=40.0)


@dataclass(frozen=True)
class Setup:
    """What a scenario has beside one Postgres and one Valkey."""

    servers: int = 1
    """How many `holdfast serve` share the database; clients reach more than one by a balancer."""
    roles: tuple[Role, ...] = ()
    """The role of each server, if they are not all alike; clients reach those that answer the API."""
    through_proxy: bool = False
    """Each server reaches Postgres by a proxy of its own, `stand.cables`."""
    small_disk: bool = False
    """The database's tables are on a small disk, `stand.disk`; its log is not."""
    clocks_off_by_seconds: tuple[int, ...] = ()
    """How wrong the clock of each server is; none is wrong if left out."""
    standby: Literal["none", "asynchronous", "synchronous"] = "none"
    """A second Postgres that follows the first, `stand.standby`; the servers know both addresses."""
    patroni: Literal["none", "asynchronous", "synchronous"] = "none"
    """Two Postgres that Patroni looks after in place of the one, `stand.patroni`; the servers know both."""
    valkey: type[Valkey] = Valkey
    """One server, a cluster, or one that is replicated under a Sentinel."""
    postgres: Mapping[str, str] = field(default_factory=dict)
    """Settings of Postgres that differ from its defaults."""
    isolated_loops: bool = False
    """Each job has an event loop of its own."""
    models: bool = False
    """There is a provider of models, `stand.openai`, and an agent that asks it."""
    shape: Shape = Shape()
    """The load."""

    @property
    def all_roles(self) -> tuple[Role, ...]:
        """The role of each server."""
        return self.roles or tuple[Role, ...](["all"] * self.servers)
