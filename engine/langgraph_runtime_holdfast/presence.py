"""Whether a server is there, and at work for us; asked beside a connection that says nothing.

A server that answers nobody is gone. One that answers others may still never answer this connection:
something in between has lost it (a hung proxy, a failover behind one address), and each side waits for the
other. So the server is asked in two ways: without a login, which takes no connection, whether it is there;
then, by a connection of a moment, which of its sessions are at work. One that is not will never answer.
"""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.waiting import wait_async

from langgraph_runtime_holdfast.connection import Connection, trust_seconds

_NEWS_SECONDS: Final = 0.5
_ASK_TRIES: Final = 3
_TURN_SECONDS: Final = 0.02
_ARE_YOU_THERE: Final = struct.pack("!ii", 8, 80877103)
"""Asks for encryption, which every server answers with one byte before anybody logs in."""
# A session that has just ended a statement may have its answer on the way. Another role's shows no state.
_AT_WORK: Final = """
SELECT array_agg(pid) FROM pg_stat_activity
WHERE state IS NULL OR state NOT LIKE 'idle%' OR state_change > clock_timestamp() - interval '1 second'
"""
_one_at_a_time: Final = threading.Lock()
"""However many loops ask at once, their process takes one connection more than its budget, for a moment."""


@dataclass(frozen=True)
class _News:
    """What a server said when it was asked."""

    asked_at: float
    is_there: bool
    at_work: frozenset[int] | None = None
    """The processes of its sessions that do something; None if it did not say."""


class _Question(AsyncConnection[tuple[Any, ...]]):
    """A connection for one question, dropped at once when its answer is late.

    The library's own would try to cancel it first, which takes ten seconds if nobody answers that either.
    """

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """Wait for the server's answer."""
        try:
            return await wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except BaseException:
            self.pgconn.finish()
            raise


class Inquiry:
    """Asks the server of a pool, once for all that wait at the same time."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._asking: asyncio.Task[None] | None = None
        self._told: _News | None = None

    async def is_at_work(self, connection: Connection) -> bool:
        """Whether a connection's server is there, and will answer it as far as can be known."""
        news = await self._news(connection)
        if news.at_work is None or not connection.is_direct or connection.may_still_be_sent:
            return news.is_there
        return connection.info.backend_pid in news.at_work or connection.is_readable()

    async def _news(self, connection: Connection) -> _News:
        since = max(connection.moved_at, time.monotonic() - _NEWS_SECONDS)
        while self._told is None or self._told.asked_at < since:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask(connection))
            await asyncio.shield(self._asking)
            # Of others' questions only those count that were asked after the statement had begun.
            since = connection.moved_at
        return self._told

    async def _ask(self, connection: Connection) -> None:
        began, wait_seconds = time.monotonic(), trust_seconds() / 2
        for _ in range(_ASK_TRIES):
            asked_at = time.monotonic()
            is_there = await answers(connection, wait_seconds)
            # If this process stood still meanwhile, it was not the server that was silent.
            if is_there or time.monotonic() - asked_at < wait_seconds * 4 / 3:
                break
        at_work = await _sessions_at_work(connection) if is_there and connection.is_direct else None
        self._told = _News(began, is_there, at_work)


async def answers(connection: AsyncConnection[Any], seconds: float) -> bool:
    """Whether a connection's server answers anybody; asked without a login, which takes no connection."""
    info = connection.info
    try:
        async with asyncio.timeout(seconds):
            if info.host.startswith("/"):
                opened = asyncio.open_unix_connection(f"{info.host}/.s.PGSQL.{info.port}")
            else:
                opened = asyncio.open_connection(info.hostaddr or info.host, info.port)
            return await _asked(opened)
    except (OSError, TimeoutError):
        return False


async def _asked(
    opening: Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]],
) -> bool:
    reader, writer = await opening
    try:
        writer.write(_ARE_YOU_THERE)
        return bool(await reader.read(1))
    finally:
        writer.transport.abort()


async def _sessions_at_work(connection: Connection) -> frozenset[int] | None:
    """The processes of the server's sessions that do something; None if it cannot be asked just now."""
    try:
        async with asyncio.timeout(trust_seconds()):
            # ASYNC110: what asyncio offers to wait for is not for several threads.
            while not _one_at_a_time.acquire(blocking=False):  # noqa: ASYNC110
                await asyncio.sleep(_TURN_SECONDS)
            try:
                parameters = _same_server(connection)
                async with await _Question.connect(**parameters, autocommit=True) as asking:
                    row = await (await asking.execute(_AT_WORK)).fetchone()
            finally:
                _one_at_a_time.release()
    except (psycopg.Error, OSError, TimeoutError):
        return None
    return frozenset(row[0] or ()) if row else None


def _same_server(connection: Connection) -> dict[str, Any]:
    """How to reach the very server of a connection, of those that its DSN may name."""
    info = connection.info
    known = {each.keyword.decode(): each.val.decode() for each in connection.pgconn.info if each.val}
    known |= {"host": info.host, "port": str(info.port), "target_session_attrs": "any"}
    if info.hostaddr:
        known["hostaddr"] = info.hostaddr
    return known
