"""The connection budget: how many Postgres connections the servers take, and whether they fit.

A process has a pool for its main loop, one for the loop that runs its jobs (or one for each isolated loop),
and the heartbeat's own connection.
`LANGGRAPH_POSTGRES_POOL_MAX_SIZE` is the sum of its pools; this module divides it. Servers times processes
times that sum must be no more than the database gives: what does not fit would work for weeks and fail with
"too many clients" on the first busy day, so it is refused at the start.
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

LEAST_OF_A_LOOP: Final = 2
LEAST_OF_MAIN: Final = 4
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
    def total(self) -> int:
        """All of them; the two of the migrations are closed before a pool opens."""
        return self.main + self.loops * self.each_loop + self.heartbeat

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


def divide(pool_max: int, *, jobs: int, isolated: bool) -> ProcessConnections:
    """Divide a process's connections among its event loops.

    Args:
        pool_max: Connections of all its pools.
        jobs: How many runs it executes at once; 0 if it only answers the API.
        isolated: Whether each job has an event loop of its own.

    Raises:
        EngineError: There are too few for so many loops.
    """
    if jobs == 0:
        return ProcessConnections(pool_max, 0, 0, 0)
    # Half for the API and the queue, half for the loops that run the jobs, which need two each.
    loops = jobs if isolated else 1
    each_loop = max(LEAST_OF_A_LOOP, pool_max // 2 // loops)
    main = pool_max - each_loop * loops
    if main < LEAST_OF_MAIN:
        raise EngineError(
            f"LANGGRAPH_POSTGRES_POOL_MAX_SIZE is {pool_max}, too few for {jobs} jobs on {loops} loops. "
            f"Set it to at least {LEAST_OF_A_LOOP * loops + LEAST_OF_MAIN}, or run fewer jobs (--jobs)."
        )
    return ProcessConnections(main, loops, each_loop, 1)


def of_this_process() -> ProcessConnections:
    """What this process may take, as it is configured.

    Raises:
        EngineError: See `divide`.
    """
    from langgraph_api import config

    jobs, isolated = int(config.N_JOBS_PER_WORKER), bool(config.BG_JOB_ISOLATED_LOOPS)
    return divide(settings().pool_max_size, jobs=jobs, isolated=isolated)


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


def check_fit(each: ProcessConnections, count: int, offer: Offer) -> None:
    """Refuse what does not fit; behind a pooler, what it gives cannot be seen.

    Args:
        each: The connections of one process.
        count: How many such processes there are.
        offer: What the database gives.

    Raises:
        EngineError: It cannot fit; says what would.
    """
    if offer.is_pooled or each.total * count <= offer.available:
        return
    fitting = offer.available // count - each.heartbeat
    least = each.loops * LEAST_OF_A_LOOP + LEAST_OF_MAIN
    smaller = f"Set LANGGRAPH_POSTGRES_POOL_MAX_SIZE to {fitting}, r" if fitting >= least else "R"
    raise EngineError(
        f"Postgres has too few connections: {count} x ({each}) are {each.total * count}, and it gives "
        f"{offer}. {smaller}un fewer servers or jobs (HOLDFAST_REPLICAS, --workers, --jobs), raise "
        "max_connections, or put PgBouncer in front."
    )


async def check_at_start(connection: AsyncConnection[DictRow]) -> None:
    """Log the sum, and refuse what does not fit.

    Raises:
        EngineError: See `check_fit`.
    """
    each, count, offer = of_this_process(), processes(), await ask_offer(connection)
    check_fit(each, count, offer)
    gives = "through a pooler, whose own limit counts" if offer.is_pooled else str(offer)
    await logger.ainfo(
        "Connections to Postgres",
        servers=settings().replicas,
        processes_each=settings().workers,
        of_each=str(each),
        sum=each.total * count,
        available=gives,
    )
