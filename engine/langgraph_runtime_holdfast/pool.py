"""The pool of an event loop: fresh connections, some kept for what must go on, never more than its size."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from langgraph_runtime_holdfast.connection import Connection
from langgraph_runtime_holdfast.presence import Inquiry
from langgraph_runtime_holdfast.settings import settings

_REPLACE_EVERY_SECONDS: Final = 0.5
_LOOK_AFTER_SECONDS: Final = 0.02
_ASK_AFTER_SECONDS: Final = 1.0
_CHECK_SECONDS: Final = 2.0
_PREPARE_AFTER: Final = 5
_SESSION: Final = {
    # How soon a statement ends whose client has closed its connection, also while it waits for a lock.
    "client_connection_check_interval": "1s",
    # How soon a client counts as gone that is cut off; it may hold locks.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

# What is set for a session behind a pooler would be everybody's: there the row that sets it has no source.
_INTRODUCE: Final = """
SELECT pg_backend_pid() = %(pid)s AS is_direct, current_setting('synchronous_standby_names') <> ''
    AS waits_for_standby, (SELECT array[''{settings}] WHERE pg_backend_pid() = %(pid)s) AS session
"""

IS_CALL: ContextVar[bool] = ContextVar("is_call", default=False)
"""Set while the API serves a call: calls leave a fifth of the connections to claims, ends of runs, probes."""


class Pool(AsyncConnectionPool[Connection]):
    """A pool that never has more connections than its size, those included that the server has yet to end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what the library's pool takes."""
        super().__init__(*args, connection_class=Connection, **kwargs)
        self._of_calls = self._room_for_calls()
        self._calls_queued = self._calls_refused = 0
        self._leaving: set[asyncio.Task[None]] = set()

    async def resize(self, min_size: int, max_size: int | None = None) -> None:
        """Change the size, at the start, when nobody has a connection yet."""
        await super().resize(min_size, max_size)
        self._of_calls = self._room_for_calls()

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Connection]:  # noqa: ASYNC109
        """Take a connection for a while."""
        # Nothing is left to end here: they commit by themselves, and who begins a transaction ends it.
        if not IS_CALL.get():
            taken = await self.getconn(timeout)
            try:
                yield taken
            finally:
                await self.putconn(taken)
            return
        wait_seconds = self.timeout if timeout is None else timeout
        if self._of_calls.locked():
            asked_at = time.monotonic()
            self._calls_queued += 1
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._of_calls.acquire()
            except TimeoutError:
                self._calls_refused += 1
                raise PoolTimeout(f"couldn't get a connection after {wait_seconds:.2f} sec") from None
            wait_seconds = max(0.01, wait_seconds - (time.monotonic() - asked_at))
        else:
            await self._of_calls.acquire()
        try:
            taken = await self.getconn(wait_seconds)
            try:
                yield taken
            finally:
                await self.putconn(taken)
        finally:
            self._of_calls.release()

    async def getconn(self, timeout: float | None = None) -> Connection:  # noqa: ASYNC109
        """Take a connection.

        Raises:
            PoolTimeout: None came in time.
        """
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        taken = await super().getconn(timeout)
        # `asyncio.wait_for`, by which the library waits, forgets a cancellation that comes along with what it
        # waits for (before Python 3.12): a task that was told to end would go on for ever.
        if task is not None and task.cancelling() > before:
            await self.putconn(taken)
            raise asyncio.CancelledError
        return taken

    def get_stats(self) -> dict[str, int]:
        """Count what the library counts, and the calls that waited for their part of the connections."""
        stats = super().get_stats()
        stats["requests_queued"] = stats.get("requests_queued", 0) + self._calls_queued
        stats["requests_errors"] = stats.get("requests_errors", 0) + self._calls_refused
        return stats

    def _room_for_calls(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(max(1, self.max_size - max(1, self.max_size // 5)))

    async def putconn(self, conn: Connection) -> None:
        """Take a connection back; one that was given up keeps its place until the server has ended it."""
        if conn.remainder is None:
            if conn.has_carried_much():
                # Its buffers are as large as what it carried, and stay so.
                await conn.close()
            await super().putconn(conn)
            return
        task = asyncio.create_task(self._put_when_ended(conn))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109
        """Close all connections."""
        self.forget()
        await super().close(timeout)

    def forget(self) -> None:
        """Wait no more for what was given up: its server is gone, and will not say that it has ended it."""
        for task in self._leaving:
            task.cancel()

    async def _put_when_ended(self, conn: Connection) -> None:
        assert conn.remainder is not None
        try:
            with suppress(OSError):
                while await asyncio.get_running_loop().sock_recv(conn.remainder, 65_536):
                    pass
        finally:
            conn.remainder.close()
            await super().putconn(conn)


class Freshness:
    """Checks each connection before it is given; one that is dead has all others replaced at once.

    By itself the pool would find its dead connections one by one, and wait longer after each.

    A server that ends a connection says so, which can be seen without asking it: nothing else makes an idle
    connection readable. Only one that has been idle for a while is asked, because it may have died silently.
    """

    def __init__(self, *, owns_thread: bool) -> None:
        """Check for a loop that has its thread to itself, or for another."""
        self.pool: Pool | None = None
        self._owns_thread = owns_thread
        self._replaced_at = 0.0
        self._inquiry = Inquiry()

    async def configure(self, connection: Connection) -> None:
        """Prepare a new connection."""
        set_json_loads(orjson.loads, connection)
        connection.owns_thread = self._owns_thread
        connection.is_at_work = self._inquiry.is_at_work
        connection.on_silence = self.replace
        row = await _introduced(connection)
        # Behind a pooler the next statement may go to a server connection that knows of no prepared one.
        connection.is_direct = row["is_direct"]
        connection.prepare_threshold = _PREPARE_AFTER if connection.is_direct else None
        connection.may_cancel = not row["waits_for_standby"]

    async def replace(self) -> None:
        """Replace all connections: the server is gone, or another one."""
        # Those who hold a connection from before the last replacement find it dead too.
        if self.pool is not None and time.monotonic() - self._replaced_at > _REPLACE_EVERY_SECONDS:
            self._replaced_at = time.monotonic()
            self.pool.forget()
            await self.pool.drain()

    async def check(self, connection: Connection) -> None:
        """Find out whether a connection can be given.

        Raises:
            psycopg.Error: It cannot.
        """
        connection.payload_bytes, connection.extra_seconds = 0, 0.0
        asked_at, connection.checked_at = connection.checked_at, time.monotonic()
        idle_seconds = connection.checked_at - asked_at
        if idle_seconds < _LOOK_AFTER_SECONDS:
            return
        if idle_seconds < _ASK_AFTER_SECONDS and not connection.is_readable():
            return
        connection.patience_seconds = _CHECK_SECONDS
        try:
            await AsyncConnectionPool.check_connection(connection)
        except psycopg.Error:
            await self.replace()
            raise
        finally:
            connection.patience_seconds = None


async def is_pooled(connection: AsyncConnection[Any]) -> bool:
    """Whether a pooler such as PgBouncer is in between: it names a process that is not the server's."""
    cursor = await connection.execute("SELECT pg_backend_pid()::text")
    row: Any = await cursor.fetchone()
    named = row["pg_backend_pid"] if isinstance(row, dict) else row[0]
    return int(named) != connection.info.backend_pid


async def _introduced(connection: Connection) -> Any:
    """Make a session's settings, and learn what it is, in the one round trip of a new connection."""
    wanted = {**_SESSION, "idle_in_transaction_session_timeout": f"{settings().statement_seconds:g}s"}
    while True:
        parameters = {"pid": connection.info.backend_pid, **wanted}
        calls = "".join(f", set_config('{name}', %({name})s, false)" for name in wanted)
        try:
            cursor = await connection.execute(_INTRODUCE.format(settings=calls), parameters)
        except psycopg.errors.InvalidParameterValue as error:
            # Not every system that Postgres runs on has each of them.
            refused = [name for name in wanted if f'"{name}"' in str(error)] or list(wanted)
            wanted = {name: value for name, value in wanted.items() if name not in refused}
        else:
            return await cursor.fetchone()
