"""Postgres: one pool for each event loop, and the handle that the operations work with.

A pool belongs to the loop that opened it. The server's main loop opens one at start; an isolated background
loop opens its own at the first use and closes it when the loop ends. Nobody else opens, recreates or closes
one.

`connect()` does not take a connection. It gives a handle that takes one from the loop's pool for a single
statement or transaction, because the API holds its handle for as long as a graph runs or a client listens.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

import orjson
import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from langgraph_runtime_holdfast.dsn import described
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.settings import settings

logger = structlog.stdlib.get_logger(__name__)

Row = dict[str, Any]
Parameters = Mapping[str, Any] | Sequence[Any] | None
Pool = AsyncConnectionPool[AsyncConnection[DictRow]]

_LEAST_OF_A_LOOP: Final = 2
_LEAST_OF_MAIN: Final = 4

_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()
_making = threading.Lock()
_REPLACE_EVERY_SECONDS: Final = 0.5
_main_loop: asyncio.AbstractEventLoop | None = None


class Executor(Protocol):
    """What runs statements: a `Handle` (each in a transaction of its own) or a `Transaction`."""

    async def fetch(self, statement: str, parameters: Parameters = None) -> list[Row]:
        """Run a statement and return all its rows."""

    async def fetch_one(self, statement: str, parameters: Parameters = None) -> Row | None:
        """Run a statement and return its first row, or None."""

    async def execute(self, statement: str, parameters: Parameters = None) -> int:
        """Run a statement and return how many rows it touched."""


class Transaction:
    """Statements on one connection, committed together."""

    def __init__(self, connection: AsyncConnection[DictRow]) -> None:
        """Use this connection, which is in a transaction."""
        self.connection = connection

    async def fetch(self, statement: str, parameters: Parameters = None) -> list[Row]:
        """Run a statement and return all its rows."""
        cursor = await self.connection.execute(statement, parameters)
        rows: list[Row] = await cursor.fetchall()
        return rows

    async def fetch_one(self, statement: str, parameters: Parameters = None) -> Row | None:
        """Run a statement and return its first row, or None."""
        cursor = await self.connection.execute(statement, parameters)
        row: Row | None = await cursor.fetchone()
        return row

    async def execute(self, statement: str, parameters: Parameters = None) -> int:
        """Run a statement and return how many rows it touched."""
        cursor = await self.connection.execute(statement, parameters)
        count: int = cursor.rowcount
        return count


class Handle:
    """What `connect()` gives: takes a pooled connection for each statement or transaction, never longer."""

    can_execute = True

    async def fetch(self, statement: str, parameters: Parameters = None) -> list[Row]:
        """Run a statement and return all its rows."""
        async with pool().connection() as connection:
            return await Transaction(connection).fetch(statement, parameters)

    async def fetch_one(self, statement: str, parameters: Parameters = None) -> Row | None:
        """Run a statement and return its first row, or None."""
        async with pool().connection() as connection:
            return await Transaction(connection).fetch_one(statement, parameters)

    async def execute(self, statement: str, parameters: Parameters = None) -> int:
        """Run a statement and return how many rows it touched."""
        async with pool().connection() as connection:
            return await Transaction(connection).execute(statement, parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Hold one connection for several statements that are committed together."""
        async with pool().connection() as connection, connection.transaction():
            yield Transaction(connection)

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Handle]:
        """What the API asks for around several statements; there is nothing to hold here."""
        yield self


@asynccontextmanager
async def connect(*, supports_core_api: bool = False, __test__: bool = False) -> AsyncIterator[Handle]:
    """Give a handle on this loop's pool, which is opened if this is the loop's first use of it."""
    await open_pool()
    yield Handle()


def pool() -> Pool:
    """This loop's pool, made at the first call; `connect()` and `open_pool()` open it.

    The server asks for its store, and with it for this, before it starts the engine.
    """
    loop = asyncio.get_running_loop()
    if (found := _pools.get(loop)) is not None:
        return found
    with _making:
        # Before the start there is one loop: the main one.
        return _pools.setdefault(loop, _make_pool(is_main=_main_loop in (None, loop)))


async def open_pool() -> Pool:
    """Open this loop's pool unless it is open."""
    found = pool()
    if found.closed:
        await found.open()
    return found


def _make_pool(*, is_main: bool) -> Pool:
    freshness = _Freshness()
    made = AsyncConnectionPool(
        settings().dsn,
        connection_class=AsyncConnection[DictRow],
        kwargs={"autocommit": True, "prepare_threshold": None, "row_factory": dict_row},
        name="main" if is_main else f"loop-{threading.current_thread().name}",
        open=False,
        configure=_configure,
        check=freshness.check,
        min_size=1,
        max_size=_pool_size(is_main=is_main),
        timeout=settings().pool_timeout_seconds,
        max_idle=300.0,
        max_lifetime=1800.0,
        # Giving up early and asking anew beats the pool's back-off, which would double up to minutes.
        reconnect_timeout=5.0,
    )
    freshness.pool = made
    return made


class _Freshness:
    """Checks each connection before it is given; one that is dead has all others replaced at once.

    By itself the pool would find its dead connections one by one, and wait longer after each.
    """

    pool: Pool | None = None
    _replaced_at = 0.0

    async def check(self, connection: AsyncConnection[DictRow]) -> None:
        try:
            await AsyncConnectionPool.check_connection(connection)
        except psycopg.Error:
            # Those who hold a connection from before the last replacement find it dead too.
            if self.pool is not None and time.monotonic() - self._replaced_at > _REPLACE_EVERY_SECONDS:
                self._replaced_at = time.monotonic()
                await self.pool.drain()
            raise


def _pool_size(*, is_main: bool) -> int:
    from langgraph_api import config

    total, jobs = settings().pool_max_size, int(config.N_JOBS_PER_WORKER)
    if not config.BG_JOB_ISOLATED_LOOPS or jobs == 0:
        return total
    # Half for the API and the queue, half for the loops that run the jobs, which need two each.
    of_each_loop = max(_LEAST_OF_A_LOOP, total // 2 // jobs)
    of_main = total - of_each_loop * jobs
    if of_main < _LEAST_OF_MAIN:
        raise EngineError(
            f"LANGGRAPH_POSTGRES_POOL_MAX_SIZE is {total}, too few for {jobs} jobs on loops of their own. "
            f"Set it to at least {_LEAST_OF_A_LOOP * jobs + _LEAST_OF_MAIN}, or run fewer jobs (--jobs)."
        )
    return of_main if is_main else of_each_loop


async def _configure(connection: AsyncConnection[DictRow]) -> None:
    set_json_loads(orjson.loads, connection)


async def start_pool() -> None:
    """Migrate the database and open the main loop's pool.

    Raises:
        EngineError: See `migrate`.
    """
    from langgraph_runtime_holdfast.migrate import migrate
    from langgraph_runtime_holdfast.store import index_config
    from langgraph_runtime_holdfast.valkey import start_valkey

    global _main_loop
    _main_loop = asyncio.get_running_loop()
    dsn = settings().dsn
    await migrate(dsn, timeout_seconds=settings().migration_timeout_seconds, store_index=index_config())
    await open_pool()
    await start_valkey()
    await logger.ainfo("Connected", database=described(dsn))


async def stop_pool() -> None:
    """Close what the main loop opened."""
    from langgraph_runtime_holdfast.valkey import stop_valkey

    await stop_valkey()
    await close_pool()


async def close_pool() -> None:
    """Close this loop's pool; an isolated loop calls it before it ends."""
    if (found := _pools.pop(asyncio.get_running_loop(), None)) is not None:
        await found.close()


async def healthcheck(*, check_db: bool = True) -> None:
    """Ask Postgres and Valkey for an answer; used by the queue's own health server."""
    if check_db:
        for check in dependency_checks().values():
            await check()


def dependency_checks() -> dict[str, Callable[[], Awaitable[None]]]:
    """What `/ok?check_db=1` asks, by name; not Valkey, whose loss slows things and fails nothing."""
    return {"postgres": _ask_postgres}


async def _ask_postgres() -> None:
    try:
        async with connect() as handle:
            await handle.fetch_one("SELECT 1")
    except (psycopg.Error, OSError) as error:
        raise DatabaseAwayError(f"Postgres does not answer: {error}") from error


class DatabaseAwayError(Exception):
    """Postgres does not answer now; the API says 503, and readiness comes back by itself."""


AWAY: Final = (DatabaseAwayError, PoolTimeout)
"""What the API answers with 503 instead of 500."""


def pool_stats(*args: Any, **kwargs: Any) -> dict[str, dict[str, int]]:
    """Gauges of every pool of this process, added up, as `/metrics` shows them."""
    from langgraph_runtime_holdfast.valkey import connection_stats

    sums = dict.fromkeys(("pool_max", "pool_size", "pool_available", "requests_queued", "requests_errors"), 0)
    for each in list(_pools.values()):
        stats = each.get_stats()
        for name in sums:
            sums[name] += stats.get(name, 0)
    return {"postgres": sums, "redis": connection_stats()}
