"""The connections of a whole deployment: what Postgres must allow, and when PgBouncer stands before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from langgraph_runtime_holdfast.budget import MARGIN, MOST_OF_JOBS, WANTED_OF_MAIN, ProcessConnections, plan

RESERVED: Final = 3
"""For superusers, as Postgres comes."""
OTHERS: Final = 27
"""Receivers (two, each twice while a rollout lasts, five each), migrations (3) and KEDA (4)."""
MOST_DIRECT: Final = 500
"""Beyond that many processes of Postgres PgBouncer is cheaper."""
LEAST_OF_A_POOLER: Final = 30
STATEMENTS_OF_A_POOLER: Final = 10_000
"""A second, of one PgBouncer, which has one thread."""
_STEP: Final = 50
_STEP_OF_CLIENTS: Final = 500


@dataclass(frozen=True)
class PgBouncer:
    """What stands between."""

    count: int
    """One of them may be away."""
    default_pool_size: int
    """Of each."""
    max_client_conn: int


@dataclass(frozen=True)
class Connections:
    """Who connects, and how often."""

    servers: int
    """HOLDFAST_REPLICAS: all of both kinds, twice: in a rollout an old one drains beside the new."""
    of_api: ProcessConnections
    of_queue: ProcessConnections
    at_work: float
    """How many are at work at a time, on average."""
    max_connections: int
    """Of Postgres."""
    pgbouncer: PgBouncer | None


def connections_of(
    api: int,
    queue: int,
    jobs: int,
    *,
    at_work: float = 0.0,
    statements_per_second: float = 0.0,
    pgbouncer: bool | None = None,
) -> Connections:
    """What so many servers need.

    Args:
        api: How many answer.
        queue: How many execute runs.
        jobs: How many runs each of these executes at once.
        at_work: How many connections are at work at a time, on average.
        statements_per_second: Of all.
        pgbouncer: Whether it stands between; None: where it is needed.
    """
    servers = 2 * (api + queue)
    # Half of what the main loop would like, and one for each job.
    share = WANTED_OF_MAIN // 2 + min(jobs, MOST_OF_JOBS) + 1
    given = _up(servers * share + OTHERS + RESERVED + MARGIN, _STEP)
    if not (given > MOST_DIRECT if pgbouncer is None else pgbouncer):
        each = (given - RESERVED - MARGIN) // servers
        return Connections(servers, _pools(0, each), _pools(jobs, each), at_work, given, None)
    of_api, of_queue = _pools(0, None), _pools(jobs, None)
    count = max(2, math.ceil(statements_per_second / STATEMENTS_OF_A_POOLER) + 1)
    # As many as are at work when chance brings many together, without the one that is away.
    size = max(LEAST_OF_A_POOLER, math.ceil((at_work + 3 * math.sqrt(at_work)) / (count - 1)))
    # One more, for what a lost machine's may still hold.
    given = _up((count + 1) * size + OTHERS + RESERVED + MARGIN, _STEP)
    clients = _up(2 * (api * of_api.total + queue * of_queue.total), _STEP_OF_CLIENTS)
    return Connections(servers, of_api, of_queue, at_work, given, PgBouncer(count, size, clients))


def _pools(jobs: int, share: int | None) -> ProcessConnections:
    return plan(jobs=jobs, isolated=False, bound=None, share=share)


def _up(number: float, step: int) -> int:
    return math.ceil(number / step) * step
