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
from langgraph_runtime_holdfast.database import Handle, close_pool, connect, open_pool
from langgraph_runtime_holdfast.migrate import migrate
from langgraph_runtime_holdfast.settings import settings
from langgraph_runtime_holdfast.valkey import key, stop_valkey
from tests.contract.api import until
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


async def test_a_run_that_comes_while_its_thread_is_pruned_finds_all_checkpoints(handle: Handle) -> None:
    """Such as the one that it continues from, which need not be the latest."""
    from langgraph_runtime_holdfast.ops import Threads

    thread_id = await new_thread(handle)
    await handle.execute(
        "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, type, checkpoint, metadata) "
        "SELECT %(id)s, '', n::text, 'json', '{}', '{}' FROM generate_series(1, 3) AS n",
        {"id": str(thread_id)},
    )
    async with handle.transaction() as tx:  # as it is added
        await tx.execute("SELECT FROM thread WHERE thread_id = %s FOR UPDATE", [thread_id])
        pruning = asyncio.create_task(Threads.prune([thread_id], "keep_latest"))

        async def waits() -> bool:
            waiting = await handle.fetch("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            return bool(waiting) or pruning.done()

        await until(waits, "the thread is waited for")
        run_id = await insert_run(tx, thread_id, "pending")
    assert await pruning == 0
    left = await handle.fetch("SELECT FROM checkpoints WHERE thread_id = %s", [str(thread_id)])
    assert len(left) == 3
    await handle.execute("DELETE FROM run WHERE run_id = %s", [run_id])
    assert await Threads.prune([thread_id], "keep_latest") == 1


async def test_large_threads_expire_one_by_one_and_a_poisoned_one_keeps_no_other(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a transaction deletes is bounded, a large thread goes in parts, and what cannot go is put off."""
    from langgraph_runtime_holdfast import checkpoint_rows
    from langgraph_runtime_holdfast.ops import Threads, thread_ttl

    for module in (checkpoint_rows, thread_ttl):
        monkeypatch.setattr(module, "MOST_AT_ONCE", 40)
    monkeypatch.setattr(checkpoint_rows, "_PART_ROWS", 30)
    at_once: dict[str, Any] = {"ttl": {"ttl": 0.00001}}
    threads = [await new_thread(handle, **at_once) for _ in range(12)]
    large, poisoned = threads[3], threads[5]
    for thread_id in threads:
        await handle.execute(
            "INSERT INTO checkpoint_blobs SELECT %(id)s, '', 'text', n::text, 'msgpack', '\\x00' "
            "FROM generate_series(1, %(count)s) AS n",
            {"id": str(thread_id), "count": 100 if thread_id == large else 10},
        )
    deletions = "SELECT count(*) AS n, count(DISTINCT at) AS transactions FROM deletion"
    for statement in (
        "CREATE TABLE deletion (thread_id text, at xid8)",
        "CREATE TABLE poisoned (thread_id text)",
        "CREATE FUNCTION note_deletion() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF OLD.thread_id = (SELECT thread_id FROM poisoned) THEN RAISE 'poison'; END IF; "
        "INSERT INTO deletion VALUES (OLD.thread_id, pg_current_xact_id()); RETURN OLD; END $$",
        "CREATE TRIGGER noted BEFORE DELETE ON checkpoint_blobs FOR EACH ROW "
        "EXECUTE FUNCTION note_deletion()",
    ):
        await handle.execute(statement)
    await handle.execute("INSERT INTO poisoned VALUES (%s)", [str(poisoned)])
    try:
        assert await Threads.sweep_ttl(handle) == (12, 11)
        row = await handle.fetch_one(f"{deletions} WHERE thread_id = %(id)s", {"id": str(large)})
        assert row is not None
        assert (row["n"], row["transactions"]) == (100, 4)
        # Nobody is in the way of anybody: the one that stayed is not tried again at once.
        assert await Threads.sweep_ttl(handle) == (0, 0)
        left = await handle.fetch("SELECT thread_id FROM thread WHERE thread_id = ANY(%s)", [threads])
        assert [row["thread_id"] for row in left] == [poisoned]
    finally:
        await handle.execute("DROP TABLE deletion, poisoned")
        await handle.execute("DROP FUNCTION note_deletion CASCADE")
    # A caller's deletion goes in parts too.
    await handle.execute(
        "INSERT INTO checkpoint_blobs SELECT %s, '', 'text', n::text, 'msgpack', '\\x00' "
        "FROM generate_series(11, 100) AS n",
        [str(poisoned)],
    )
    assert [each async for each in await Threads.delete(handle, poisoned)] == [poisoned]
    assert await handle.fetch("SELECT FROM checkpoint_blobs WHERE thread_id = %s", [str(poisoned)]) == []


async def test_a_thread_stays_locked_however_long_its_deletion_takes(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres ends a transaction that is silent while others delete; a run could begin then."""
    from langgraph_runtime_holdfast.ops import Threads, thread_ttl

    monkeypatch.setattr(thread_ttl, "MOST_AT_ONCE", 0)
    monkeypatch.setattr(settings(), "statement_seconds", 1.0)
    await close_pool()
    await open_pool()
    thread_id = await new_thread(handle, ttl={"ttl": 0.00001})
    await handle.execute(
        "INSERT INTO checkpoint_blobs VALUES (%s, '', 'text', '1', 'msgpack', '\\x00')", [str(thread_id)]
    )
    for statement in (
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM pg_sleep(0.4); RETURN NULL; END $$",
        *(
            f"CREATE TRIGGER slow AFTER DELETE ON {table} EXECUTE FUNCTION slowly()"
            for table in ("checkpoint_writes", "checkpoints", "checkpoint_blobs")
        ),
    ):
        await handle.execute(statement)
    try:
        assert await Threads.sweep_ttl(handle) == (1, 1)
    finally:
        await handle.execute("DROP FUNCTION slowly CASCADE")


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
        async with asyncio.timeout(60), aclosing(events):
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


async def test_a_feed_has_so_many_bytes_and_who_misses_some_is_told(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only so many entries; who comes back too late gets the result at the end, also long after it."""
    from langgraph_runtime_holdfast.ops.run_feed import run_feed
    from langgraph_runtime_holdfast.ops.run_stream import RunStream
    from langgraph_runtime_holdfast.valkey import ask

    monkeypatch.setenv("HOLDFAST_FEED_MB", "1")
    settings.cache_clear()
    thread_id = await new_thread(handle)
    run_id = await insert_run(handle, thread_id, "running")
    await handle.execute(
        'UPDATE run SET kwargs = \'{"resumable": true, "stream_mode": ["values"]}\' WHERE run_id = %s',
        [run_id],
    )
    ids: list[bytes] = []

    async def tell(count: int) -> None:
        for _ in range(count):
            data = b'"%s"' % (b"x" * 50_000)
            ids.append(await feed.append(run_feed(thread_id, run_id), b"values", data, keep_seconds=60))

    async def told(last_event_id: str) -> list[bytes]:
        channel = await RunStream.subscribe(run_id)
        events = RunStream.join(
            run_id, stream_channel=channel, thread_id=thread_id, last_event_id=last_event_id
        )
        return [data async for _, data, _ in events]

    await tell(116)
    name = run_feed(thread_id, run_id)
    assert 20 <= await ask(name, lambda client: client.xlen(name)) <= 40
    assert (await ask(name, lambda client: client.memory_usage(name)) or 0) < 2_000_000

    await handle.execute(
        "WITH ended AS (UPDATE run SET status = 'success', updated_at = now() - interval '1 minute'), "
        "over AS (DELETE FROM run_inflight) "
        'UPDATE thread SET "values" = \'{"the": "end"}\' WHERE thread_id = %s',
        [thread_id],
    )
    await feed.append(run_feed(thread_id, run_id), b"control", b"done", keep_seconds=60)
    committed = b'{"the": "end"}'
    # From the beginning, and from what is gone: the result is told besides what is there.
    for position in ("-1", ids[3].decode()):
        assert (await told(position))[-1] == committed
    # Nothing is missing: it is not.
    assert committed not in await told(ids[-10].decode())
