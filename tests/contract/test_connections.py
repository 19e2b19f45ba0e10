"""The pools on a real Postgres: what is dead is replaced, who waits is served, limits are final."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from psycopg import sql
from psycopg_pool import PoolTimeout
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast import arrival
from langgraph_runtime_holdfast.availability import LimitExceededError
from langgraph_runtime_holdfast.connection import Connection, ServerSilentError
from langgraph_runtime_holdfast.database import (
    DatabaseAwayError,
    Handle,
    Row,
    Transaction,
    dependency_checks,
    pool,
)
from langgraph_runtime_holdfast.presence import _sessions_at_work, answers
from langgraph_runtime_holdfast.retry import retry_db
from langgraph_runtime_holdfast.settings import settings
from tests.contract.api import until
from tests.contract.engine_pool import engine_pool
from tests.contract.engines import Services
from tests.contract.proxy import cutting_proxy

AT_ONCE = 30
MOST_CONNECTIONS = 30
"""Of the process; the pool of its main loop has a share of them."""
RECOVERED_SECONDS = 2.0
AWAY_SECONDS = 5.0
PROBE_SECONDS = 2.0
"""Longer than an answer of Postgres counts."""
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"


STATEMENT_SECONDS = 5.0
SESSIONS = """
SELECT pid, wait_event_type FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'
"""


@pytest.fixture
def database(services: Services) -> str:
    """The name of a database of the test."""
    name = f"pools_{uuid.uuid4().hex[:8]}"
    services.make_database(name)
    return name


@pytest.fixture
def admin(services: Services) -> Iterator[psycopg.Connection]:
    """A connection to another database, from which this one is taken away."""
    with psycopg.connect(services.postgres_uri, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def handle(services: Services, database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Handle]:
    """The pool of this loop."""
    monkeypatch.setenv("HOLDFAST_STATEMENT_SECONDS", str(STATEMENT_SECONDS))
    monkeypatch.setenv("LANGGRAPH_POSTGRES_POOL_MAX_SIZE", str(MOST_CONNECTIONS))
    async with engine_pool(f"{services.postgres_uri.rsplit('/', 1)[0]}/{database}", monkeypatch) as opened:
        yield opened


async def test_after_all_sessions_were_ended_the_next_calls_work_at_once(
    handle: Handle, admin: psycopg.Connection, database: str
) -> None:
    # As a handler of the API: a session may also end between the pool's look at it and the statement.
    @retry_db
    async def ask() -> float:
        began = time.monotonic()
        await handle.fetch_one("SELECT pg_sleep(0.01)")
        return time.monotonic() - began

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    assert len(admin.execute(END_SESSIONS, [database]).fetchall()) > 3
    assert max(await asyncio.gather(*(ask() for _ in range(AT_ONCE)))) < RECOVERED_SECONDS


async def test_who_waits_is_served_when_postgres_is_back_though_nobody_else_comes(
    handle: Handle, admin: psycopg.Connection, database: str
) -> None:
    def allow(whether: bool) -> None:
        statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        admin.execute(statement.format(sql.Identifier(database), sql.Literal(whether)))

    ready = dependency_checks()["postgres"]
    await ready()
    allow(False)
    admin.execute(END_SESSIONS, [database])

    async def are_gone() -> bool:
        return not admin.execute(SESSIONS, [database]).fetchall()

    @retry_db  # as a handler of the API: the pool trusts a connection for 20 ms after it was used
    async def ask() -> Row | None:
        return await handle.fetch_one("SELECT 1 AS answer")

    async def call() -> Row | None:
        return await ask()

    await until(are_gone, "the sessions are gone")
    waiting = asyncio.create_task(call())
    with pytest.raises(DatabaseAwayError):
        await ready()
    await asyncio.sleep(AWAY_SECONDS)  # the fault itself, longer than the pool tries by itself
    assert not waiting.done()
    allow(True)
    back_at = time.monotonic()
    assert await waiting == {"answer": 1}
    assert time.monotonic() - back_at < RECOVERED_SECONDS
    await ready()


async def test_what_is_too_large_for_postgres_is_no_transient_fault(handle: Handle) -> None:
    with pytest.raises(LimitExceededError, match="too large"):
        await handle.fetch_one("SELECT repeat('x', 2000000000)")
    assert await handle.fetch_one("SELECT 1 AS answer") == {"answer": 1}


async def test_statements_that_wait_for_a_lock_are_ended_there_and_leave_room_for_others(
    handle: Handle, admin: psycopg.Connection, services: Services, database: str
) -> None:
    @retry_db
    async def change() -> None:
        await handle.execute("UPDATE thread SET status = 'idle'")

    async def call() -> None:
        await change()

    ready, size = dependency_checks()["postgres"], pool().max_size
    with psycopg.connect(f"{services.postgres_uri.rsplit('/', 1)[0]}/{database}") as bystander:
        bystander.execute("LOCK TABLE thread IN ACCESS EXCLUSIVE MODE")
        calls = [asyncio.create_task(call()) for _ in range(AT_ONCE)]
        most, at_once, waited = 0, 0, set[int]()
        while not all(each.done() for each in calls[: size // 2]):
            await ready()  # a probe gets one of the connections that calls leave
            sessions = admin.execute(SESSIONS, [database]).fetchall()
            most = max(most, len(sessions) - 1)
            waiting = {pid for pid, waits in sessions if waits == "Lock"}
            at_once, waited = max(at_once, len(waiting)), waited | waiting
            await asyncio.sleep(0.1)
        refused = await asyncio.gather(*calls[: size // 2], return_exceptions=True)
        for each in refused:
            assert isinstance(each, HTTPException)
            assert (each.status_code, "lock" in each.detail) == (503, True)
        # It was the statements that were given up, not their connections. Those of a caller who leaves just
        # while Postgres is asked about them may go, so this is before.
        assert waited <= {row[0] for row in admin.execute(SESSIONS, [database])}
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

        async def none_waits() -> bool:
            return all(waits != "Lock" for _, waits in admin.execute(SESSIONS, [database]))

        await until(none_waits, "what was given up is ended")
    assert (at_once, most <= size) == (size - size // 5, True)


async def test_a_server_that_ignores_the_wish_to_end_a_statement_keeps_its_place_in_the_pool(
    handle: Handle, admin: psycopg.Connection, services: Services, database: str
) -> None:
    """As a commit that waits for a standby: to cancel it would make it count as done."""
    async with pool().connection() as connection:
        connection.may_cancel = False
        connection.patience_seconds = 0.5
        process_id, size = connection.info.backend_pid, pool().get_stats()["pool_size"]
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("SELECT pg_sleep(60)")
    # Hung up on, it ends by itself, because the server looks for its client; until then it is counted.
    assert pool().get_stats()["pool_size"] == size
    deadline = time.monotonic() + 10
    while any(pid == process_id for pid, _ in admin.execute(SESSIONS, [database])):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert await handle.fetch_one("SELECT 1 AS answer") == {"answer": 1}


async def test_who_is_told_to_end_as_a_connection_comes_ends(handle: Handle) -> None:
    """Or a task of the server would go on, and its stop wait for it for ever."""
    taken = [await pool().getconn() for _ in range(pool().max_size)]
    try:
        waiting = asyncio.create_task(pool().getconn())

        async def waits() -> bool:
            return pool().get_stats()["requests_waiting"] == 1

        await until(waits, "it waits")
        await pool().putconn(taken.pop())
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        taken.append(await pool().getconn())
    finally:
        for connection in taken:
            await pool().putconn(connection)


async def test_rows_that_keep_arriving_are_no_silence_and_what_is_large_gets_its_time(handle: Handle) -> None:
    async with pool().connection() as connection:
        connection.patience_seconds = 0.5
        cursor = await connection.execute(
            "SELECT repeat('x', 100000), pg_sleep(0.05) FROM generate_series(1, 40)"
        )
        assert cursor.rowcount == 40
        connection.patience_seconds = None
        connection.payload_bytes = 40_000_000
        assert connection._limit_seconds() == STATEMENT_SECONDS + 10


async def test_what_is_large_may_be_sent_for_longer_than_a_server_is_trusted(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph_runtime_holdfast.connection.trust_seconds", lambda: 0.2)
    async with pool().connection() as connection:
        backend = psutil.Process(connection.info.backend_pid)
        backend.suspend()
        try:
            sent = asyncio.create_task(connection.execute("SELECT length(%b)", [bytes(20_000_000)]))
            await asyncio.sleep(1.0)  # the fault itself: it takes nothing for a while
        finally:
            backend.resume()
        assert await (await sent).fetchone() == {"length": 20_000_000}


async def test_a_connection_that_something_in_between_has_lost_is_not_waited_for(
    services: Services, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_STATEMENT_SECONDS", "600")
    address = urlsplit(services.postgres_uri)
    assert address.port
    async with cutting_proxy(address.port) as proxy:
        through = address.netloc.replace(f":{address.port}", f":{proxy.port}")
        uri = address._replace(netloc=through, path=f"/{database}").geturl()
        async with engine_pool(uri, monkeypatch) as handle, pool().connection() as connection:
            # A server that is at work for longer than it is trusted is no reason to give it up.
            await connection.execute("SELECT pg_sleep(4)")
            proxy.swallow()
            with pytest.raises(ServerSilentError):
                await connection.execute("SELECT 1")
            assert await handle.fetch_one("SELECT 1 AS answer") == {"answer": 1}


async def test_what_was_told_before_a_statement_began_is_no_reason_to_give_it_up(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph_runtime_holdfast.connection.trust_seconds", lambda: 0.2)
    asked, may_tell = asyncio.Event(), asyncio.Event()

    async def tells_late(connection: Connection) -> frozenset[int] | None:
        told = await _sessions_at_work(connection)
        asked.set()
        await may_tell.wait()
        return told

    async with pool().connection() as first, pool().connection() as second:
        await asyncio.sleep(1.1)  # a session counts as at work for a second more
        monkeypatch.setattr("langgraph_runtime_holdfast.presence._sessions_at_work", tells_late)
        slow = asyncio.create_task(first.execute("SELECT pg_sleep(1)"))
        await asyncio.wait_for(asked.wait(), 60)
        later = asyncio.create_task(second.execute("SELECT pg_sleep(1)"))
        await asyncio.sleep(0.5)  # it asks too, and joins the question of the first
        may_tell.set()
        await asyncio.gather(slow, later)


async def test_a_server_is_not_taken_for_gone_because_the_process_stood_still(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph_runtime_holdfast.presence.trust_seconds", lambda: 0.2)
    stand_still = iter([1.0])

    async def answers_late(connection: Connection, seconds: float) -> bool:
        asyncio.get_running_loop().call_soon(time.sleep, next(stand_still, 0.0))
        return await answers(connection, seconds)

    monkeypatch.setattr("langgraph_runtime_holdfast.presence.answers", answers_late)
    async with pool().connection() as connection:
        assert connection.is_at_work is not None
        assert await connection.is_at_work(connection)


async def test_a_process_that_stops_and_starts_again_is_patient_again(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from langgraph_runtime_holdfast import database as module

    monkeypatch.setattr("langgraph_runtime_holdfast.valkey_start.start_valkey", _nothing)
    await module.hurry()
    assert pool().timeout < settings().pool_timeout_seconds
    await module.close_pool()
    try:
        await module.start_pool()
        assert pool().timeout == settings().pool_timeout_seconds
    finally:
        monkeypatch.setattr(module, "_main_loop", None)


async def test_a_transaction_that_was_idle_for_too_long_is_tried_again(handle: Handle) -> None:
    """A process that stood still finds it ended by Postgres, and nothing of it done."""
    tries = 0

    @retry_db
    async def handler() -> int:
        nonlocal tries
        tries += 1
        async with handle.transaction() as tx:
            await tx.allow_silence(0.1 if tries == 1 else 10.0)
            await asyncio.sleep(0.3)  # the standstill
        return tries

    assert await handler() == 2


async def _nothing() -> None: ...


async def test_while_postgres_answers_others_a_probe_need_not_wait_for_a_connection(handle: Handle) -> None:
    """All are taken by large states for longer than a probe waits."""
    asked = await asyncio.gather(*(taken_connection() for _ in range(pool().max_size)))
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            assert await health_fault() is None
        await asyncio.sleep(PROBE_SECONDS)
        assert await health_fault() is not None  # nobody has heard of it
        await asked[0].execute("SELECT 1")
        assert await health_fault() is None
    finally:
        for connection in asked:
            await pool().putconn(connection)


async def test_what_has_carried_tens_of_megabytes_is_closed(handle: Handle) -> None:
    """The library's buffers grow with the largest message, and it keeps them."""

    async def is_closed_after(statement: str, parameters: list[str]) -> bool:
        async with pool().connection() as connection:
            await Transaction(connection).fetch(statement, parameters)
            assert not connection.closed
        return connection.closed

    assert not await is_closed_after("SELECT %s::text", ["x"])
    assert await is_closed_after("SELECT %s::text IS NULL", ["x" * 20_000_000])
    assert await is_closed_after("SELECT repeat(%s, 20000000)", ["x"])
    assert not await is_closed_after("SELECT %s::text", ["x"])


async def test_what_answers_others_is_not_healthy_while_it_gives_no_connection(
    handle: Handle, admin: psycopg.Connection, database: str
) -> None:
    """Such as the heartbeat, which keeps the connection that it has."""
    kept = await taken_connection()
    others = END_SESSIONS + " AND pid <> %s"
    admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(database)))
    admin.execute(others, [database, kept.info.backend_pid])

    async def is_told() -> bool:
        await kept.execute("SELECT 1")
        return await health_fault() is not None

    try:
        with pytest.raises(PoolTimeout):
            await pool().getconn(0.5)
        await until(is_told, "no call of the API can be answered")
    finally:
        await pool().putconn(kept)


async def taken_connection() -> Connection:
    return await pool().getconn()


async def health_fault() -> str | None:
    from langgraph_runtime_holdfast.health import _check

    return await _check.fault()


async def test_a_start_finds_the_primary_behind_a_host_that_is_gone(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is gone, and not only its Postgres, refuses nothing: it swallows what it is sent."""
    monkeypatch.setattr(arrival, "_ANSWER_SECONDS", 1.0)
    with ExitStack() as opened:
        gone = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # its queue of connections is full then
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(gone.getsockname())
        user, place = services.postgres_uri.rsplit("@", 1)
        dsn = f"{user}@127.0.0.1:{gone.getsockname()[1]},{place}?connect_timeout=2"
        assert await arrival._why_away(dsn) is None
