"""Threads of the engine where replicas meet: expiry, leases, and streams, on a real Postgres and Valkey."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from uuid import UUID

import pytest

from langgraph_runtime_holdfast import feed
from langgraph_runtime_holdfast.database import Handle, close_pool, connect
from langgraph_runtime_holdfast.migrate import migrate
from langgraph_runtime_holdfast.settings import settings
from langgraph_runtime_holdfast.valkey import key, stop_valkey
from tests.contract.engine_rows import insert_run
from tests.contract.engines import Services

EVERYTHING = ("run_modes", "lifecycle", "state_update")


@pytest.fixture(scope="module")
def database_uri(services: Services) -> str:
    """A database of this module."""
    return services.make_database("threads")


@pytest.fixture
async def handle(
    services: Services, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Handle]:
    """The engine's pool and Valkey client in this test's loop."""
    monkeypatch.setenv("DATABASE_URI", database_uri)
    monkeypatch.setenv("REDIS_URI", services.valkey_uri)
    monkeypatch.setenv("REDIS_KEY_PREFIX", f"{uuid.uuid4()}:")
    settings.cache_clear()
    await migrate(database_uri, timeout_seconds=30)
    async with connect() as opened:
        yield opened
    await feed.close_follower()
    await stop_valkey()
    await close_pool()
    settings.cache_clear()


async def new_thread(handle: Handle, **changes: Any) -> UUID:
    """Create a thread, and change its row."""
    from langgraph_runtime_holdfast.ops import Threads

    thread_id = uuid.uuid4()
    await Threads.put(handle, thread_id, metadata={}, if_exists="raise", ttl=changes.pop("ttl", None))
    for column, value in changes.items():
        await handle.execute(
            f"UPDATE thread SET {column} = %(value)s WHERE thread_id = %(thread_id)s",  # noqa: S608 - the test's own
            {"value": value, "thread_id": thread_id},
        )
    return thread_id


async def test_expired_threads_are_swept_once_by_any_number_of_replicas(handle: Handle) -> None:
    """Nothing is swept twice, and nothing that is in use."""
    from langgraph_runtime_holdfast.ops import Threads

    at_once: dict[str, Any] = {"ttl": {"ttl": 0.00001}}
    kept = {
        await new_thread(handle),
        await new_thread(handle, ttl={"ttl": 60}),
        await new_thread(handle, **at_once, status="busy"),
        waiting := await new_thread(handle, **at_once),
        pruned := await new_thread(handle, ttl={"ttl": 0.00001, "strategy": "keep_latest"}),
    }
    await insert_run(handle, waiting, "pending")
    for _ in range(30):
        await new_thread(handle, **at_once)

    swept = await asyncio.gather(*(Threads.sweep_ttl(handle, batch_size=4) for _ in range(3)))

    assert sum(found for found, _ in swept) == sum(done for _, done in swept) == 31
    rows = await handle.fetch("SELECT thread_id, expires_at FROM thread")
    assert {row["thread_id"] for row in rows} == kept
    assert [row["expires_at"] for row in rows if row["thread_id"] == pruned] == [None]
    assert await Threads.sweep_ttl(handle) == (0, 0)


async def test_a_worker_that_lost_its_lease_writes_nothing(handle: Handle) -> None:
    """Neither the run's status nor the thread's state; who holds the lease writes both."""
    from langgraph_api.asyncio import ValueEvent

    from langgraph_runtime_holdfast.ops import Threads
    from langgraph_runtime_holdfast.ops.lease import Lease, LeaseLostError

    thread_id = await new_thread(handle, status="busy")
    run_id = await insert_run(handle, thread_id, "running", token=7)
    checkpoint = {"values": {"a": 1}, "next": [], "tasks": []}

    async def end(token: int, status: str) -> None:
        with Lease(run_id, thread_id, token, attempt=1).entered(ValueEvent()):
            await Threads.set_joint_status(handle, thread_id, run_id, status, "graph", checkpoint)

    async def state() -> tuple[Any, ...]:
        row = await handle.fetch_one(
            'SELECT thread.status, "values", (SELECT run_shown.status FROM run_shown) AS run FROM thread '
            "WHERE thread_id = %(thread_id)s",
            {"thread_id": thread_id},
        )
        assert row is not None
        return row["status"], row["values"], row["run"]

    await handle.execute("DELETE FROM run WHERE run_id <> %(run_id)s", {"run_id": run_id})
    for status in ("success", "rollback"):
        with pytest.raises(LeaseLostError):
            await end(6, status)
    assert await state() == ("busy", None, "running")
    await end(7, "success")
    assert await state() == ("idle", {"a": 1}, "success")


async def test_a_thread_stays_busy_while_another_run_waits(handle: Handle) -> None:
    """The end of one run does not hide the next."""
    from langgraph_runtime_holdfast.ops import Threads

    thread_id = await new_thread(handle, status="busy")
    run_id = await insert_run(handle, thread_id, "running")
    await insert_run(handle, thread_id, "pending")
    await Threads.set_joint_status(handle, thread_id, run_id, "error", "graph", None, ValueError("x"))
    (row,) = [row async for row in await Threads.get(handle, thread_id)]
    assert (row["status"], row["error"]["message"], row["metadata"]["graph_id"]) == ("busy", "x", "graph")


async def test_a_thread_stream_has_one_order_and_resumes_anywhere_in_it(handle: Handle) -> None:
    """Events of the thread and of its runs, of those too that begin after joining."""
    from langgraph_runtime_holdfast.ops import Threads

    thread_id = await new_thread(handle)
    first, second = [await insert_run(handle, thread_id, "pending") for _ in range(2)]

    async def add(source: str, event: bytes, data: bytes) -> None:
        await feed.append(source, event, data, keep_seconds=60)

    async def say() -> None:
        for run_id in (first, second):
            for number in range(20):
                await add(key(thread_id, "run", run_id), b"values", str(number).encode())
                await add(key(thread_id, "thread", thread_id), b"state_update", b"{}")
            await add(key(thread_id, "run", run_id), b"control", b"done")
        late = uuid.uuid4()
        await add(key(thread_id, "thread", thread_id), b"run", str(late).encode())
        await add(key(thread_id, "run", late), b"values", b"last")

    async def hear(last_event_id: str | None, count: int) -> list[tuple[bytes, bytes, bytes | None, str]]:
        events = Threads.Stream.join_event_streaming(
            thread_id, last_event_id=last_event_id, stream_modes=EVERYTHING
        )
        async with asyncio.timeout(20), aclosing(events):
            return [await anext(events) for _ in range(count)]

    count = 2 * (20 + 20 + 1) + 1
    live = asyncio.create_task(hear("-", count))
    await say()
    heard = await live
    ids = [event[2] for event in heard if event[2] is not None]
    assert len(ids) == count
    assert ids == sorted(set(ids), key=feed.order)
    assert [event[3] for event in heard if event[0] == b"metadata"] == [str(first), str(second)]
    assert heard[-1][1] == b"last"
    for seen in (0, 17, 60, count - 2):
        assert await hear(ids[seen].decode(), count - seen - 1) == heard[seen + 1 :]
