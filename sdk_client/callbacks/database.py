"""The receiver's Postgres pool, with one promise: a call has an answer or a `DatabaseAwayError` in time.

psycopg's own timeouts do not give that promise: cancelling a statement on a server that hangs takes up to
ten seconds, because psycopg asks the same server to cancel it. So a call runs as a task of its own; when its
time is up the caller gets the error and the task is left to finish or fail by itself. A store that was left
behind and succeeds when the database wakes up is welcome: it is idempotent.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

logger = logging.getLogger(__name__)

Connection = AsyncConnection[DictRow]
T = TypeVar("T")

_SCHEMA: Final = (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")
# By its newest part.
_IS_MADE: Final = """
SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('callbacks.inbox') AND attname = 'webhook_id'
"""
# libpq gives no SQLSTATE for a connection that it was refused. None of these is cured by waiting.
_FINAL: Final = re.compile(
    r"password|authentication (failed|method)|pg_hba\.conf|(role|database|user) \"[^\"]*\" does not exist"
    r"|permission denied|not permitted to log in|does not support SSL|certificate",
    re.IGNORECASE,
)
_SCHEMA_LOCK: Final = 0x686F6C6463616C6C  # any constant of our own: "holdcall" in ASCII
ANSWER_SECONDS: Final = 0.8  # a request is answered within a second
PATIENT_SECONDS: Final = 10.0  # nobody waits for the background work
_STATEMENT_TIMEOUT_MS: Final = 700
_RETRY_PAUSE_SECONDS: Final = 0.02
_ABANDONED_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 3.0


class DatabaseAwayError(Exception):
    """Postgres did not do what was asked in time. Nothing may be reported as stored."""


class Database:
    """A small pool that is opened in the lifespan of the app and recovers by itself."""

    def __init__(self, uri: str, *, wait_seconds: float) -> None:
        """Build the closed pool; `wait_seconds` bounds how long `open` waits for Postgres."""
        self._uri = uri
        self._wait_seconds = wait_seconds
        self._connect_options = _connect_options(uri)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._away = False
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            uri,
            connection_class=AsyncConnection[DictRow],
            kwargs=self._connect_options,
            name="callbacks",
            open=False,
            min_size=1,
            max_size=5,
            max_waiting=200,
            timeout=ANSWER_SECONDS,
            check=AsyncConnectionPool.check_connection,
            max_lifetime=1800.0,
            # The pool's back-off would double up to minutes. Giving up early instead lets the next
            # call ask for a connection anew, so that the first call after an outage succeeds.
            reconnect_timeout=0.5,
        )

    async def open(self) -> None:
        """Wait for Postgres, make the schema, open the pool.

        Raises:
            DatabaseAwayError: Postgres was not there within the wait, or it refuses; one line.
        """
        await self.prepare()
        await self._pool.open()

    async def prepare(self) -> None:
        """Wait for Postgres and make the schema; safe to repeat, and for several receivers at once.

        Raises:
            DatabaseAwayError: Postgres was not there within the wait, or it refuses; one line.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._wait_seconds
        while True:
            try:
                async with asyncio.timeout_at(max(deadline, clock() + 1.0)):
                    await self._make_schema()
            except (psycopg.OperationalError, TimeoutError) as error:
                if _FINAL.search(_one_line(error)):
                    raise DatabaseAwayError(
                        f"Postgres refuses the connection ({_one_line(error)}): correct "
                        "CALLBACKS_DATABASE_URI (or DATABASE_URI), its user and its password"
                    ) from error
                if clock() >= deadline:
                    raise DatabaseAwayError(
                        f"Postgres did not answer within {self._wait_seconds:g} s ({_one_line(error)}): "
                        "start it or correct CALLBACKS_DATABASE_URI"
                    ) from error
                logger.warning("waiting for Postgres, %.0f s left: %s", deadline - clock(), _one_line(error))
            except psycopg.Error as error:
                raise DatabaseAwayError(
                    f"Postgres refused to make the schema `callbacks` ({_one_line(error)}): give the user of "
                    "CALLBACKS_DATABASE_URI the right to create it, or create it from schema.sql"
                ) from error
            else:
                return
            await asyncio.sleep(min(1.0, max(deadline - clock(), 0.0)))

    async def call(
        self, operation: Callable[[Connection], Awaitable[T]], *, timeout_seconds: float = ANSWER_SECONDS
    ) -> T:
        """Run `operation` in one transaction; it may run again within its time if a connection was dead.

        Raises:
            DatabaseAwayError: no answer in time, or an error of the database.
        """
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        task = asyncio.create_task(self._until(deadline, operation))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        await asyncio.wait({task}, timeout=timeout_seconds)
        if not task.done():
            raise self._away_error(f"no answer within {timeout_seconds:g} s")
        try:
            result = task.result()
        except (psycopg.Error, TimeoutError) as error:
            raise self._away_error(_one_line(error)) from error
        if self._away:
            self._away = False
            logger.info("the database is back")
        return result

    async def ping(self) -> None:
        """Ask Postgres for an answer.

        Raises:
            DatabaseAwayError: it gave none in time.
        """
        await self.call(_select_one)

    async def close(self) -> None:
        """Let calls in flight finish for a moment, then close every connection, even if Postgres hangs."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        # The first cancel makes psycopg ask the server to cancel; the second makes it hang up.
        for _ in range(2):
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=0.2)
        await self._pool.close(timeout=_CLOSE_SECONDS)

    async def _until(self, deadline: float, operation: Callable[[Connection], Awaitable[T]]) -> T:
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(_ABANDONED_SECONDS):
            while True:
                try:
                    async with self._pool.connection(timeout=max(deadline - clock(), 0.001)) as connection:
                        return await _in_time(connection, operation)
                except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction):
                    # After a restart every idle connection is dead; each attempt throws one away.
                    if clock() + _RETRY_PAUSE_SECONDS >= deadline:
                        raise
                await asyncio.sleep(_RETRY_PAUSE_SECONDS)

    async def _make_schema(self) -> None:
        async with await AsyncConnection.connect(self._uri, **self._connect_options) as connection:
            # Looked for first, so that a role without the right to create is enough once it is there.
            cursor = await connection.execute(_IS_MADE)
            if await cursor.fetchone() is not None:
                return
            await connection.execute("SET LOCAL lock_timeout = '10s'")
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_SCHEMA_LOCK])
            await connection.execute(_SCHEMA)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("a database call failed: %s", _one_line(error))

    def _away_error(self, cause: str) -> DatabaseAwayError:
        if not self._away:
            self._away = True
            logger.error("the database is away: %s", cause)
        return DatabaseAwayError(cause)


async def _in_time(connection: Connection, operation: Callable[[Connection], Awaitable[T]]) -> T:
    try:
        # LOCAL, because behind PgBouncer a session setting would leak to other clients.
        await connection.execute(f"SET LOCAL statement_timeout = {_STATEMENT_TIMEOUT_MS}")
        return await operation(connection)
    except psycopg.errors.ReadOnlySqlTransaction:
        # The server behind this connection was demoted; the pool's check would pass for ever.
        await connection.close()
        raise


async def _select_one(connection: Connection) -> None:
    await connection.execute("SELECT 1")


def _connect_options(uri: str) -> dict[str, Any]:
    """What makes a dead peer noticed soon; whatever the URI says itself has precedence."""
    options: dict[str, Any] = {
        "application_name": "holdfast-callbacks",
        "connect_timeout": 2,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,  # milliseconds; ignored where the system has no such option
        "target_session_attrs": "read-write",
    }
    given = conninfo_to_dict(uri)
    return {
        **{name: value for name, value in options.items() if name not in given},
        "row_factory": dict_row,
        "prepare_threshold": None,  # PgBouncer in transaction mode
    }


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
