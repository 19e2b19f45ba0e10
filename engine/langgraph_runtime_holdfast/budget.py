"""The connection budget: how many Postgres connections a process takes, so that all servers together fit.

A process has a pool for its main loop, one for the loop that runs its jobs (or one for each isolated loop),
and the heartbeat's own connection. How large the pools may grow follows from the jobs and from this process's
share of what the database gives, which is asked at the start: servers that take more would work for weeks and
fail with "too many clients" on the first busy day. What cannot fit is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.settings import settings

logger = structlog.stdlib.get_logger(__name__)

LEAST_OF_MAIN: Final = 4
LEAST_OF_JOBS: Final = 4
LEAST_OF_AN_ISOLATED_LOOP: Final = 2
WANTED_OF_MAIN: Final = 20
WANTED_OF_A_JOB: Final = 2
"""One for what it saves, one for what it reads meanwhile."""
MOST_OF_JOBS: Final = 40
"""One loop keeps no more of them busy, however many jobs it runs."""
MARGIN: Final = 5
"""Left free for psql, backups, monitoring and another server's start."""
_OFFER: Final = """
SELECT current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
       (SELECT least(nullif(rolconnlimit, -1), nullif(datconnlimit, -1)) FROM pg_roles, pg_database
        WHERE rolname = session_user AND datname = current_database()) AS own_limit,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
        AND application_name <> current_setting('application_name'))::int AS others,
       pg_backend_pid() AS process_id
"""


@dataclass(frozen=True)
class ProcessConnections:
    """The most connections that one process takes."""

    main: int
    """Of the main loop's pool: API, queue, crons."""
    loops: int
    """How many loops run jobs: one, or one for each job if they are isolated."""
    each_loop: int
    heartbeat: int

    @property
    def pools(self) -> int:
        """Those of its pools."""
        return self.main + self.loops * self.each_loop

    @property
    def total(self) -> int:
        """All of them; the two of the migrations are closed before a pool opens."""
        return self.pools + self.heartbeat

    def __str__(self) -> str:
        """The sum, as people check it."""
        loops = {0: "", 1: f" + {self.each_loop} for jobs"}.get(
            self.loops, f" + {self.loops} loops x {self.each_loop}"
        )
        return f"{self.main}{loops}{' + 1 heartbeat' * self.heartbeat} = {self.total}"


@dataclass(frozen=True)
class Offer:
    """What the database gives."""

    max_connections: int
    reserved: int
    """For superusers, and since Postgres 16 for roles with pg_use_reserved_connections."""
    own_limit: int | None
    """CONNECTION LIMIT of the role or of the database, if there is one."""
    others: int
    """Connections of other programs just now."""
    is_pooled: bool
    """A pooler is in between, and its limits count instead of these."""

    @property
    def available(self) -> int:
        """What all servers together may take."""
        free = self.max_connections - self.reserved - MARGIN
        return free if self.own_limit is None else min(free, self.own_limit)

    def __str__(self) -> str:
        """The sum, as people check it."""
        limit = "" if self.own_limit is None else f", at most {self.own_limit} for this role or database"
        return (
            f"max_connections {self.max_connections} - {self.reserved} reserved - {MARGIN} for administration"
            f"{limit} = {self.available}"
        )


def plan(*, jobs: int, isolated: bool, bound: int | None, share: int | None) -> ProcessConnections:
    """Decide how large the pools of a process may grow.

    Args:
        jobs: How many runs it executes at once; 0 if it only answers the API.
        isolated: Whether each job has an event loop of its own.
        bound: LANGGRAPH_POSTGRES_POOL_MAX_SIZE, the sum of the pools, if it is set.
        share: The connections that the database has for this process, if that is known; `fit` has seen that
            it is enough.

    Raises:
        EngineError: The bound is too small for so many jobs.
    """
    loops = jobs if isolated else min(jobs, 1)
    least = _least(jobs, isolated=isolated)
    if isolated:
        of_loops = WANTED_OF_A_JOB * jobs
    else:
        of_loops = loops * max(LEAST_OF_JOBS, min(WANTED_OF_A_JOB * jobs, MOST_OF_JOBS))
    wanted = ProcessConnections(WANTED_OF_MAIN, loops, of_loops // max(loops, 1), int(jobs > 0))
    if bound is not None and bound < least.pools:
        raise EngineError(
            f"LANGGRAPH_POSTGRES_POOL_MAX_SIZE is {bound}, too few for {jobs} jobs. Set it to at least "
            f"{least.pools}, leave it unset, or run fewer jobs (--jobs)."
        )
    pools = wanted.pools if bound is None else bound
    if share is not None:
        pools = min(pools, share - least.heartbeat)
    each_loop = max(least.each_loop, pools * wanted.each_loop // wanted.pools)
    return ProcessConnections(pools - each_loop * loops, loops, each_loop, wanted.heartbeat)


def _least(jobs: int, *, isolated: bool) -> ProcessConnections:
    if not jobs:
        return ProcessConnections(LEAST_OF_MAIN, 0, 0, 0)
    if isolated:
        return ProcessConnections(LEAST_OF_MAIN, jobs, LEAST_OF_AN_ISOLATED_LOOP, 1)
    return ProcessConnections(LEAST_OF_MAIN, 1, LEAST_OF_JOBS, 1)


_share: int | None = None
"""What the database has for this process; None until it was asked, and behind a pooler."""


def of_this_process() -> ProcessConnections:
    """What this process may take, as it is configured, and as far as the database is known.

    Raises:
        EngineError: See `plan`.
    """
    return _plan_here(_share)


def _plan_here(share: int | None) -> ProcessConnections:
    jobs, isolated = _jobs_here()
    return plan(jobs=jobs, isolated=isolated, bound=settings().pool_max_size, share=share)


def _jobs_here() -> tuple[int, bool]:
    from langgraph_api import config

    return int(config.N_JOBS_PER_WORKER), bool(config.BG_JOB_ISOLATED_LOOPS)


def processes() -> int:
    """How many processes share the database."""
    return settings().replicas * settings().workers


async def ask_offer(connection: AsyncConnection[DictRow]) -> Offer:
    """Ask the database what it gives."""
    row = await (await connection.execute(_OFFER)).fetchone()
    assert row is not None  # a SELECT without FROM has one row
    # A pooler tells its clients of a process that is not the server's.
    is_pooled = row.pop("process_id") != connection.info.backend_pid
    return Offer(**row, is_pooled=is_pooled)


def share_of(offer: Offer, count: int) -> int | None:
    """What one of so many processes may take; None behind a pooler, whose limits cannot be seen."""
    return None if offer.is_pooled else offer.available // count


def fit(offer: Offer) -> ProcessConnections:
    """What this process takes of what the database gives.

    Raises:
        EngineError: Not even the least can fit; says what could be changed.
    """
    jobs, isolated = _jobs_here()
    count, share, least = processes(), share_of(offer, processes()), _least(jobs, isolated=isolated)
    if share is not None and share < least.total:
        raise EngineError(
            f"Postgres has too few connections: {count} x ({least}) are {count * least.total} at the least, "
            f"and it gives {offer}. Run fewer servers or jobs (HOLDFAST_REPLICAS, --workers, --jobs), raise "
            "max_connections, or put PgBouncer in front."
        )
    return _plan_here(share)


async def fit_at_start(connection: AsyncConnection[DictRow]) -> ProcessConnections:
    """Ask the database what it gives, keep to it from now on, and log the sum.

    Raises:
        EngineError: See `fit`.
    """
    global _share
    offer, count = await ask_offer(connection), processes()
    each = fit(offer)
    _share = share_of(offer, count)
    gives = "through a pooler, whose own limit counts" if offer.is_pooled else str(offer)
    await logger.ainfo(
        "Connections to Postgres",
        servers=settings().replicas,
        processes_each=settings().workers,
        of_each=str(each),
        sum=each.total * count,
        available=gives,
    )
    return each
