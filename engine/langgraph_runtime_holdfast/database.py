"""Postgres: one pool for each event loop, and the handle that the operations work with.

A pool belongs to the loop that opened it. The server's main loop opens one at start; each loop of jobs opens
its own when it begins and closes it when it ends. Nobody else opens, recreates or closes one.

`connect()` does not take a connection. It gives a handle that takes one from the loop's pool for a single
statement or transaction, because the API holds its handle for as long as a graph runs or a client listens.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol, TypedDict, Unpack
from weakref import WeakKeyDictionary

import psycopg
import structlog
from psycopg import AsyncCursor
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from langgraph_runtime_holdfast.availability import refusals
from langgraph_runtime_holdfast.budget import fit_at_start, of_this_process
from langgraph_runtime_holdfast.connection import Connection, size_of
from langgraph_runtime_holdfast.dsn import described
from langgraph_runtime_holdfast.pool import Freshness, Pool
from langgraph_runtime_holdfast.settings import settings

logger = structlog.stdlib.get_logger(__name__)

Row = dict[str, Any]
Parameters = Mapping[str, Any] | Sequence[Any] | None

_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()
_making = threading.Lock()
_RECONNECT_SECONDS: Final = 2.0
_STOPPING_SECONDS: Final = 3.0
_TOLD_SECONDS: Final = 0.1
_ASK_SECONDS: Final = 0.01
_READY_SECONDS: Final = 2.5
"""Less than the three that the server gives a check, after which it says 500 and not 503."""
_MAY_BE_IDLE: Final = "SELECT set_config('idle_in_transaction_session_timeout', %(milliseconds)s, true)"
_main_loop: asyncio.AbstractEventLoop | None = None
_is_stopping = False


class How(TypedDict, total=False):
    """How a statement is run."""

    often: bool
    """It is prepared, unless a pooler is in between. The rest is planned for its values each time, because a
    plan for all values can be a bad one for a search."""
    extra_seconds: float
    """It has much to find or to delete before it says a word."""
    binary: bool
    """Its result comes in the binary format, in which what is large and `bytea` is not twice as large."""


class Executor(Protocol):
    """What runs statements: a `Handle` (each in a transaction of its own) or a `Transaction`.

    A statement may be silent for HOLDFAST_STATEMENT_SECONDS, and longer by what its parameters weigh, and by
    its `extra_seconds`; then it is ended. Rows that keep arriving need nothing: they are no silence.
    """

    async def fetch(self, statement: str, parameters: Parameters = None, **how: Unpack[How]) -> list[Row]:
        """Run a statement and return all its rows."""

    async def fetch_one(
        self, statement: str, parameters: Parameters = None, **how: Unpack[How]
    ) -> Row | None:
        """Run a statement and return its first row, or None."""

    async def execute(self, statement: str, parameters: Parameters = None, **how: Unpack[How]) -> int:
        """Run a statement and return how many rows it touched."""


class Transaction:
    """Statements on one connection, committed together."""

    def __init__(self, connection: Connection) -> None:
        """Use this connection, which is in a transaction."""
        self.connection = connection

    async def fetch(self, statement: str, parameters: Parameters = None, **how: Unpack[How]) -> list[Row]:
        """Run a statement and return all its rows."""
        cursor = await self._run(statement, parameters, **how)
        rows: list[Row] = await cursor.fetchall()
        return rows

    async def fetch_one(
        self, statement: str, parameters: Parameters = None, **how: Unpack[How]
    ) -> Row | None:
        """Run a statement and return its first row, or None."""
        cursor = await self._run(statement, parameters, **how)
        row: Row | None = await cursor.fetchone()
        return row

    async def execute(self, statement: str, parameters: Parameters = None, **how: Unpack[How]) -> int:
        """Run a statement and return how many rows it touched."""
        cursor = await self._run(statement, parameters, **how)
        count: int = cursor.rowcount
        return count

    async def allow_silence(self, seconds: float) -> None:
        """Let the transaction be idle for so long between two statements; the server ends it after that."""
        await self.execute(_MAY_BE_IDLE, {"milliseconds": str(int(seconds * 1000))})

    async def _run(
        self,
        statement: str,
        parameters: Parameters,
        *,
        often: bool = False,
        extra_seconds: float = 0.0,
        binary: bool = False,
    ) -> AsyncCursor[DictRow]:
        self.connection.payload_bytes += size_of(parameters)
        self.connection.extra_seconds = extra_seconds
        return await self.connection.execute(statement, parameters, prepare=often, binary=binary)


class Handle:
    """What `connect()` gives: takes a pooled connection for each statement or transaction, never longer."""

    can_execute = True

    async def fetch(self, statement: str, parameters: Parameters = None, **how: Unpack[How]) -> list[Row]:
        """Run a statement and return all its rows."""
        async with pool().connection() as connection:
            return await Transaction(connection).fetch(statement, parameters, **how)

    async def fetch_one(
        self, statement: str, parameters: Parameters = None, **how: Unpack[How]
    ) -> Row | None:
        """Run a statement and return its first row, or None."""
        async with pool().connection() as connection:
            return await Transaction(connection).fetch_one(statement, parameters, **how)

    async def execute(self, statement: str, parameters: Parameters = None, **how: Unpack[How]) -> int:
        """Run a statement and return how many rows it touched."""
        async with pool().connection() as connection:
            return await Transaction(connection).execute(statement, parameters, **how)

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
    share = of_this_process()
    # A loop that jobs share must not be held up for a moment by any of them.
    freshness = Freshness(owns_thread=not is_main and share.loops > 1)
    made = Pool(
        settings().dsn,
        kwargs={"autocommit": True, "prepare_threshold": None, "row_factory": dict_row},
        name="main" if is_main else f"loop-{threading.current_thread().name}",
        open=False,
        configure=freshness.configure,
        check=freshness.check,
        min_size=1,
        max_size=share.main if is_main or not share.loops else share.each_loop,
        timeout=_patience_seconds(),
        max_idle=300.0,
        max_lifetime=1800.0,
        # Giving up early and asking anew beats the pool's back-off, which would double up to minutes.
        reconnect_timeout=_RECONNECT_SECONDS,
        reconnect_failed=_ask_anew,
    )
    freshness.pool = made
    return made


async def _ask_anew(pool: AsyncConnectionPool[Any]) -> None:
    """Have the pool try on if somebody waits; by itself it would wait for the next who comes."""
    if pool.closed or not pool.get_stats().get("requests_waiting"):
        return
    with suppress(PoolTimeout, PoolClosed):
        async with pool.connection(timeout=_ASK_SECONDS):
            pass


async def start_pool() -> None:
    """Migrate the database, unless somebody else does, and open the main loop's pool.

    Raises:
        EngineError: See `migrate` and `require_schema`.
    """
    from langgraph_runtime_holdfast.migrate import migrate
    from langgraph_runtime_holdfast.schema_state import require_schema
    from langgraph_runtime_holdfast.store import index_config
    from langgraph_runtime_holdfast.valkey_start import start_valkey

    global _main_loop, _is_stopping
    _main_loop, _is_stopping = asyncio.get_running_loop(), False
    # It repeats each failure of each pool; `availability` tells of them once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    dsn = settings().dsn
    index = index_config()
    if settings().migrates:
        await migrate(dsn, timeout_seconds=settings().migration_timeout_seconds, store_index=index)
    else:
        await require_schema(dsn, wants_vectors=index is not None)
    main = await open_pool()
    async with main.connection() as connection:
        share = await fit_at_start(connection)
    await main.resize(main.min_size, share.main)
    await start_valkey()
    await logger.ainfo("Connected", database=described(dsn))


async def stop_pool() -> None:
    """Close what the main loop opened."""
    from langgraph_runtime_holdfast.valkey import stop_valkey

    await stop_valkey()
    await close_pool()


def _patience_seconds() -> float:
    seconds = settings().pool_timeout_seconds
    return min(seconds, _STOPPING_SECONDS) if _is_stopping else seconds


async def hurry() -> None:
    """The process stops: nobody waits long for a connection any more, nor for one that does not come now."""
    global _is_stopping
    _is_stopping = True
    found = pool()
    found.timeout = _patience_seconds()
    if refusals.reason() is not None:
        # The next use makes another, in case Postgres is back by then.
        await close_pool()
        # Before Python 3.12 a task that is cancelled in the moment in which it is told would not notice.
        await asyncio.sleep(_TOLD_SECONDS)


async def close_pool(timeout_seconds: float = 5.0) -> None:
    """Close this loop's pool; a loop of jobs calls it before it ends.

    Args:
        timeout_seconds: How long it may wait for a connection that it is making.
    """
    if (found := _pools.pop(asyncio.get_running_loop(), None)) is not None:
        await found.close(timeout_seconds)


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
        async with asyncio.timeout(_READY_SECONDS), connect() as handle:
            await handle.fetch_one("SELECT 1")
    except (psycopg.Error, OSError, TimeoutError) as error:
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
