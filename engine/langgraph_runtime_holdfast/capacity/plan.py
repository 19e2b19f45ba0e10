"""From a load and what a run costs to servers, connections, Postgres, disk and Valkey.

What is assumed and not measured is here, each with a name; docs/scale.md tells them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from langgraph_runtime_holdfast.capacity.connections import Connections, connections_of
from langgraph_runtime_holdfast.capacity.measured import Figures, Measured
from langgraph_runtime_holdfast.capacity.waiting import Slots, fewest
from langgraph_runtime_holdfast.errors import EngineError

BUSY: Final = 0.6
"""How much of a processor may be used on average: the rest is for bursts, and for another one's death."""
SLOTS_BUSY: Final = 0.8
"""How much of the slots may be: near the edge a bit more makes an endless queue. As in KEDA's scaler."""
LARGEST_POSTGRES_CORES: Final = 64
"""Of one machine that is still a usual one."""
LARGEST_WAL_MB_A_SECOND: Final = 200
"""What one machine and its standbys keep writing."""
WHOLE_PAGES_BYTES: Final = 12 * 8192
"""Of WAL, a run, beside what was measured: a page of each index with a random key, written as a whole in a
database that is far larger than what changes between two checkpoints."""
MOST_SERVERS: Final = 1000
"""As HOLDFAST_REPLICAS allows; each counts twice there, because of rollouts."""
MOST_BUSY: Final = 500_000
"""Runs at once that can be computed."""
ROOM: Final = 1.5
"""What tables take beside their rows: dead ones until they are vacuumed, and pages that fill up."""
WAL_ON_DISK_BYTES: Final = 20 * 2**30
EVENTS_SECONDS: Final = 120
"""RESUMABLE_STREAM_TTL_SECONDS: so long Valkey keeps a run's events after its end."""
ONE_VALKEY_BYTES: Final = 8 * 2**30
SHARDS: Final = 16
"""Into so many parts Valkey's keys are divided: a cluster of more nodes is of no use."""
DAY: Final = 86_400


@dataclass(frozen=True)
class Load:
    """What is asked for."""

    runs_per_second: float
    """At the busiest time."""
    seconds_per_run: float
    """For which a run has its slot, on average."""
    wait_seconds: float = 1.0
    """In which 95 of 100 runs are to start."""
    steps: int = 5
    kilobytes: float = 20.0
    """What each step writes."""
    jobs: int = 10
    """N_JOBS_PER_WORKER."""
    keep_days: float = 30.0
    average_runs_per_second: float | None = None
    """Over the whole day; that of the busiest time if nothing is said."""
    streamed: float = 0.0
    """The part of the runs whose caller takes a stream."""
    own_ms: float = 0.0
    """Processor of the graph's own nodes."""
    pgbouncer: bool | None = None
    """None: where it is needed."""

    def shared_by(self, deployments: int) -> Load:
        """The part of one of so many deployments."""
        average = self.average_runs_per_second
        return Load(
            **{
                **vars(self),
                "runs_per_second": self.runs_per_second / deployments,
                "average_runs_per_second": None if average is None else average / deployments,
            }
        )


@dataclass(frozen=True)
class Servers:
    """Who answers and who executes."""

    api: int
    queue: int
    """One of each may be away."""
    api_at_least: int
    queue_at_least: int
    """With all of them there."""
    bound_by: Literal["processor", "slots"]
    """What decides how many queues there are."""
    slots: int
    load: float
    wait_p50_seconds: float
    wait_p95_seconds: float
    wait_p95_seconds_with_one_away: float
    start_seconds: float
    """What a start takes with a free slot."""
    api_cores: float
    queue_cores: float


@dataclass(frozen=True)
class Postgres:
    """The database's part."""

    ms_per_run: float
    statements_per_run: float
    cores_busy: float
    cores_for_looks: float
    """Of these, what queues take that look for runs and find none."""
    cores: int
    """To have."""
    commits_per_second: float
    statements_per_second: float
    wal_bytes_per_run: float
    wal_mb_per_second: float
    wal_gb_per_day: float


@dataclass(frozen=True)
class Disk:
    """What is kept."""

    kept_bytes_per_run: float
    gb_per_day: float
    kept_gb: float
    """By the TTL."""
    disk_gb: int
    """To have, WAL included."""


@dataclass(frozen=True)
class Valkey:
    """Events and wake-ups."""

    cores_busy: float
    memory_mb: int
    nodes: int
    """More than one is a cluster; each with a replica if a loss must not cost seconds."""


@dataclass(frozen=True)
class Plan:
    """The answer for one deployment."""

    servers: Servers
    connections: Connections
    postgres: Postgres
    disk: Disk
    valkey: Valkey

    def beyond(self) -> dict[str, float]:
        """What one deployment does not carry, and how many times too much it is."""
        parts = {
            f"{LARGEST_POSTGRES_CORES} cores of Postgres": self.postgres.cores / LARGEST_POSTGRES_CORES,
            f"{LARGEST_WAL_MB_A_SECOND} MB of WAL a second": self.postgres.wal_mb_per_second
            / LARGEST_WAL_MB_A_SECOND,
            f"HOLDFAST_REPLICAS of {MOST_SERVERS}": self.connections.servers / MOST_SERVERS,
            f"{SHARDS} nodes of Valkey": self.valkey.nodes / SHARDS,
        }
        return {name: part for name, part in parts.items() if part > 1}


def plan_for(load: Load, measured: Measured) -> Plan:
    """What one deployment needs, whether or not there is such a machine.

    Raises:
        EngineError: More runs at once than this is for.
    """
    busy = load.runs_per_second * load.seconds_per_run
    if busy > MOST_BUSY:
        raise EngineError(
            f"{load.runs_per_second:g} runs a second of {load.seconds_per_run:g} s are "
            f"{busy:,.0f} at once; up to {MOST_BUSY:,} can be computed. "
            "Ask for one of several deployments."
        )
    cost = measured.cost(load.steps, load.kilobytes)
    servers, looks = _servers(load, measured, cost)
    postgres = _postgres(load, measured, cost, servers, looks)
    connections = connections_of(
        servers.api,
        servers.queue,
        load.jobs,
        at_work=load.runs_per_second * cost.connection_ms / 1000,
        statements_per_second=postgres.statements_per_second,
        pgbouncer=load.pgbouncer,
    )
    return Plan(servers, connections, postgres, _disk(load, cost), _valkey(load, cost))


def deployments_for(load: Load, measured: Measured) -> tuple[int, Plan]:
    """How many deployments share the load, each with a Postgres of its own, and what one of them needs.

    Raises:
        EngineError: See `plan_for`.
    """
    count, plan = 1, plan_for(load, measured)
    while beyond := plan.beyond():
        # What grows with the square of the load, as looks do, is within its bound after less than so many.
        count = max(count + 1, math.floor(count * max(beyond.values()) ** 0.5))
        plan = plan_for(load.shared_by(count), measured)
    return count, plan


def _servers(load: Load, measured: Measured, cost: Figures) -> tuple[Servers, float]:
    """The second is how often the queues look for runs and find none, a second."""
    api_ms = cost.api_ms + load.streamed * max(0.0, measured.stream_api_ms - measured.wait_api_ms)
    api_cores = load.runs_per_second * api_ms / 1000
    held_ms = measured.held.queue_ms * load.seconds_per_run
    queue_cores = load.runs_per_second * (cost.queue_ms + load.own_ms + held_ms) / 1000
    busy = load.runs_per_second * load.seconds_per_run
    by_wait = fewest(load.runs_per_second, load.seconds_per_run, load.wait_seconds, step=load.jobs)
    by_processor = math.ceil(queue_cores / BUSY)
    by_load = math.ceil(busy / (SLOTS_BUSY * load.jobs))
    at_least = max(by_wait, by_processor)
    queue = max(at_least + 1, by_load)
    api_at_least = max(1, math.ceil(api_cores / BUSY))
    # Each run wakes all queues, which look as often as they can.
    looks = queue * min(load.runs_per_second * _looks_a_run(measured), measured.claim(busy).most_a_second)
    slots = Slots(queue * load.jobs, load.runs_per_second, load.seconds_per_run)
    one_away = Slots((queue - 1) * load.jobs, load.runs_per_second, load.seconds_per_run)
    servers = Servers(
        api=api_at_least + 1,
        api_at_least=api_at_least,
        queue=queue,
        queue_at_least=at_least,
        bound_by="processor" if by_processor > max(by_wait, by_load) else "slots",
        slots=slots.count,
        load=slots.load,
        wait_p50_seconds=slots.wait_seconds(0.5),
        wait_p95_seconds=slots.wait_seconds(0.95),
        wait_p95_seconds_with_one_away=one_away.wait_seconds(0.95),
        start_seconds=measured.start_ms / 1000,
        api_cores=api_cores,
        queue_cores=queue_cores,
    )
    return servers, looks


def _looks_a_run(measured: Measured) -> float:
    """Of each queue."""
    return max(looks / queues for queues, looks in measured.looks_a_run.items())


def _postgres(load: Load, measured: Measured, cost: Figures, servers: Servers, looks: float) -> Postgres:
    runs, busy = load.runs_per_second, load.runs_per_second * load.seconds_per_run
    looks_ms = measured.claim(busy).postgres_ms
    # What one queue looks is in the cost of a run already, of a time when few were executing.
    beyond = max(0.0, looks - runs * _looks_a_run(measured))
    growth = runs * max(0.0, looks_ms - measured.claim(0).postgres_ms)
    looking = (beyond * looks_ms + growth) / 1000
    ms_per_run = cost.postgres_ms + measured.held.postgres_ms * load.seconds_per_run
    cores = runs * ms_per_run / 1000 + looking + measured.idle.postgres_ms / 1000 * servers.queue
    wal = cost.wal_bytes + measured.held.wal_bytes * load.seconds_per_run + WHOLE_PAGES_BYTES
    average = _average(load)
    statements = measured.statements(load.steps)
    return Postgres(
        ms_per_run=ms_per_run,
        statements_per_run=statements,
        cores_busy=cores,
        cores_for_looks=looking,
        cores=max(2, math.ceil(cores / BUSY)),
        commits_per_second=runs * cost.commits,
        statements_per_second=runs * statements + beyond,
        wal_bytes_per_run=wal,
        wal_mb_per_second=runs * wal / 1e6,
        wal_gb_per_day=average * DAY * wal / 1e9,
    )


def _disk(load: Load, cost: Figures) -> Disk:
    a_day = _average(load) * DAY * cost.kept_bytes
    kept = a_day * load.keep_days
    return Disk(
        kept_bytes_per_run=cost.kept_bytes,
        gb_per_day=a_day / 1e9,
        kept_gb=kept / 1e9,
        disk_gb=math.ceil((kept * ROOM + WAL_ON_DISK_BYTES) / 1e9),
    )


def _valkey(load: Load, cost: Figures) -> Valkey:
    cores = load.runs_per_second * cost.valkey_ms / 1000
    seconds = EVENTS_SECONDS + load.seconds_per_run
    memory = load.runs_per_second * seconds * cost.valkey_bytes * ROOM
    return Valkey(
        cores_busy=cores,
        memory_mb=max(64, math.ceil(memory / 1e6)),
        # It has one thread for commands.
        nodes=max(1, math.ceil(cores / BUSY), math.ceil(memory / ONE_VALKEY_BYTES)),
    )


def _average(load: Load) -> float:
    return load.runs_per_second if load.average_runs_per_second is None else load.average_runs_per_second
