"""The queue of the engine on a real Postgres: who gets which run, and what an old lease can still do."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from uuid import UUID

import anyio
import anyio.to_process
import orjson
import psycopg
import pytest

from langgraph_runtime_holdfast.database import Handle, Row, Transaction
from tests.contract.api import until
from tests.contract.engine_pool import engine_pool
from tests.contract.engines import Services

ADD_ASSISTANT = "INSERT INTO assistant (assistant_id, graph_id, name) VALUES (%(id)s, 'g', 'g')"
ADD_CRON = """
INSERT INTO cron (cron_id, assistant_id, schedule, payload, next_run_date)
VALUES (%(id)s, %(assistant)s, '* * * * *', '{}', now() - interval '1 minute')
"""
ADD_THREAD = "INSERT INTO thread (thread_id, status) VALUES (%(id)s, 'busy')"
LEASE_SECONDS = 2


@pytest.fixture
async def handle(services: Services, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Handle]:
    """A database of the test, and no Valkey at all."""
    monkeypatch.setenv("HOLDFAST_LEASE_SECONDS", str(LEASE_SECONDS))
    monkeypatch.setenv("HOLDFAST_POLL_SECONDS", "0.2")
    database_uri = services.make_database(f"queue_{uuid.uuid4().hex[:8]}")
    async with engine_pool(database_uri, monkeypatch) as opened:
        from langgraph_runtime_holdfast.ops.lease import heartbeat

        await opened.execute(ADD_ASSISTANT, {"id": ASSISTANT})
        yield opened
        # The next test has another database.
        heartbeat().end()


ASSISTANT = uuid.uuid4()


async def new_thread(handle: Handle) -> UUID:
    """Add a thread's row."""
    thread_id = uuid.uuid4()
    await handle.execute(ADD_THREAD, {"id": thread_id})
    return thread_id


async def new_run(handle: Handle, thread_id: UUID, **kwargs: Any) -> UUID:
    """Create a run as the API does."""
    from langgraph_runtime_holdfast.ops import Runs

    run_id = uuid.uuid4()
    made = await Runs.put(
        handle,
        ASSISTANT,
        {"config": {}, "stream_mode": ["values"], **kwargs},
        thread_id=thread_id,
        run_id=run_id,
        metadata={},
        prevent_insert_if_inflight=False,
        multitask_strategy="enqueue",
    )
    assert (await anext(made))["run_id"] == run_id
    return run_id


async def column(handle: Handle, name: str, run_id: UUID) -> Any:
    """One column of a run."""
    statement = f"SELECT {name} AS value FROM run_shown WHERE run_id = %(id)s"  # noqa: S608
    row = await handle.fetch_one(statement, {"id": run_id})
    return row and row["value"]


async def test_each_run_goes_to_one_claim_and_a_thread_has_one_at_a_time(handle: Handle) -> None:
    """Whoever claims, and however many do at once."""
    from langgraph_runtime_holdfast.ops.run_queue import claim

    queues = {await new_thread(handle): list[UUID]() for _ in range(8)}
    for _ in range(3):
        for thread_id, runs in queues.items():
            runs.append(await new_run(handle, thread_id))
    for turn in range(3):
        claims = await asyncio.gather(*(claim(3) for _ in range(12)))
        claimed = [run["run_id"] for each in claims for run, *_ in each]
        assert sorted(claimed) == sorted(runs[turn] for runs in queues.values())
        await handle.execute("DELETE FROM run WHERE run_id = ANY(%(ids)s)", {"ids": claimed})


async def test_whoever_lost_the_lease_writes_nothing(handle: Handle) -> None:
    """The run of a worker that seems dead goes to another, and the first comes back."""
    from langgraph_runtime_holdfast.ops import Threads
    from langgraph_runtime_holdfast.ops.lease import LeaseLostError
    from langgraph_runtime_holdfast.ops.run_queue import claim, put_back, sweep

    thread_id = await new_thread(handle)
    run_id = await new_run(handle, thread_id)
    ((_, first, _),) = await claim(1)
    await handle.execute("UPDATE run_inflight SET leased_until = now() - interval '1 second'")
    swept: list[UUID] = []

    async def is_swept() -> bool:
        swept.extend(await sweep())
        return bool(swept)

    # Not while the database has just started: it could not be told of the heartbeats.
    await until(is_swept, "the run is swept", seconds=LEASE_SECONDS + 5)
    assert swept == [run_id]
    ((_, second, _),) = await claim(1)
    assert (second.attempt, "died" in (second.first_error or "")) == (2, True)
    assert second.token > first.token
    assert not await put_back(handle, first, ValueError("late"))
    with first.entered(asyncio.Event()), pytest.raises(LeaseLostError):
        await Threads.set_joint_status(handle, thread_id, run_id, "success", "g", None, None)
    assert await column(handle, "status", run_id) == "running"
    with second.entered(asyncio.Event()):
        await Threads.set_joint_status(handle, thread_id, run_id, "success", "g", None, None)
    assert await column(handle, "status", run_id) == "success"


async def test_a_retry_waits_and_keeps_the_first_cause_and_one_that_is_handed_back_does_not_count(
    handle: Handle,
) -> None:
    """The API's created_at stays what it was."""
    from langgraph_runtime_holdfast.ops.run_queue import claim, put_back

    run_id = await new_run(handle, await new_thread(handle))
    created_at = await column(handle, "created_at", run_id)
    ((_, lease, _),) = await claim(1)
    assert await put_back(handle, lease, OSError("first"))
    assert await claim(1) == []
    assert await column(handle, "available_at > now()", run_id)
    await handle.execute("UPDATE run_inflight SET available_at = now()")
    ((_, lease, _),) = await claim(1)
    assert (lease.attempt, lease.first_error) == (2, "OSError: first")
    lease.is_handed_back = True
    assert await put_back(handle, lease, OSError("second"))
    ((_, lease, _),) = await claim(1)
    assert (lease.attempt, lease.first_error) == (2, "OSError: first")
    assert await column(handle, "created_at", run_id) == created_at


@pytest.mark.parametrize(("action", "told"), [("interrupt", "interrupted"), ("rollback", "rollback")])
async def test_a_run_that_is_cancelled_while_it_backs_off_has_its_callback(
    handle: Handle, action: Literal["interrupt", "rollback"], told: str
) -> None:
    """Nobody works on it who could tell; one that has never begun has none, as in the stock server."""
    from langgraph_runtime_holdfast.ops import Runs
    from langgraph_runtime_holdfast.ops.run_queue import claim, put_back

    tried, handed_back, untried = [
        await new_run(handle, await new_thread(handle), webhook="http://127.0.0.1:1/told") for _ in range(3)
    ]
    await new_run(handle, await new_thread(handle))
    for _, lease, _ in await claim(2):
        lease.is_handed_back = lease.run_id == handed_back
        assert await put_back(handle, lease, OSError("first"))
    assert not await column(handle, "attempt", handed_back)

    await Runs.cancel(handle, status="pending", action=action, reason="enough")

    rows = await handle.fetch("SELECT run_id, body FROM outbox")
    bodies = {row["run_id"]: orjson.loads(row["body"]) for row in rows}
    assert bodies.keys() == {tried, handed_back}
    assert untried not in bodies
    for body in bodies.values():
        assert (body["status"], body["error"]["message"]) == (told, "enough")


async def test_a_blocked_loop_does_not_lose_its_lease_and_a_wish_to_cancel_arrives(handle: Handle) -> None:
    """The heartbeat is a thread; it also finds what no signal has told."""
    from langgraph_api.asyncio import ValueEvent
    from langgraph_api.errors import UserInterrupt

    from langgraph_runtime_holdfast.ops import Runs
    from langgraph_runtime_holdfast.ops.lease import heartbeat, held

    run_id = await new_run(handle, await new_thread(handle))
    _ = [each async for each in Runs.next(wait=False)]
    lease = held(run_id)
    assert lease is not None
    time.sleep(LEASE_SECONDS * 1.5)  # noqa: ASYNC251 - this is the blocked loop
    assert await column(handle, "leased_until > now()", run_id)
    done = ValueEvent()
    with lease.entered(done):
        await handle.execute("UPDATE run_inflight SET cancel_action = 'interrupt', cancel_reason = 'enough'")
        async with asyncio.timeout(60):
            assert isinstance(await done.wait(), UserInterrupt)
    heartbeat().release(lease)


async def test_a_create_whose_answer_is_lost_makes_one_run(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection dies between the commit and its answer."""
    thread_id = await new_thread(handle)
    fetch, cuts = Handle.fetch, [True]

    async def cut_after_commit(self: Handle, statement: str, *args: Any, **options: Any) -> list[Row]:
        rows = await fetch(self, statement, *args, **options)
        if "add_run" in statement and cuts and cuts.pop():
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return rows

    monkeypatch.setattr(Handle, "fetch", cut_after_commit)
    await new_run(handle, thread_id)
    assert not cuts
    assert await handle.fetch("SELECT count(*) AS n FROM run") == [{"n": 1}]


async def test_a_patch_whose_answer_is_lost_makes_one_version(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection dies between the commit and its answer; the next patch is one of its own again."""
    from langgraph_runtime_holdfast.ops import Assistants

    assistant = {"assistant_id": uuid.uuid4()}
    await handle.execute(
        "INSERT INTO assistant (assistant_id, graph_id, name) VALUES (%(assistant_id)s, 'g', 'n')", assistant
    )
    transaction, cuts = Handle.transaction, [True]

    @asynccontextmanager
    async def cut_after_commit(self: Handle) -> AsyncIterator[Transaction]:
        async with transaction(self) as tx:
            yield tx
        if cuts and cuts.pop():
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(Handle, "transaction", cut_after_commit)
    for expected in (1, 2):
        changed = await Assistants.patch(handle, assistant["assistant_id"], metadata={"a": 1})
        assert [row["version"] async for row in changed] == [expected]
    assert not cuts


async def test_creates_that_wait_for_a_lock_make_one_run_each(handle: Handle) -> None:
    """As CREATE INDEX takes it; the first attempts are given up, and yet be done when the lock is gone."""
    from langgraph_runtime_holdfast.connection import ServerSilentError

    busy, free = await new_thread(handle), await new_thread(handle)
    await new_run(handle, busy)
    given_up: list[asyncio.Task[list[Row]]] = []
    fetch = Handle.fetch

    async def give_up(self: Handle, statement: str, *args: Any, **options: Any) -> list[Row]:
        if "add_run" not in statement or len(given_up) >= 8:
            return await fetch(self, statement, *args, **options)
        given_up.append(asyncio.create_task(fetch(self, statement, *args, **options)))
        await asyncio.sleep(0.2)
        raise ServerSilentError(0.2)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Handle, "fetch", give_up)
        async with handle.transaction() as locking:
            await locking.execute("LOCK TABLE run IN SHARE MODE")
            threads = [busy, free, free, *[await new_thread(handle) for _ in range(5)]]
            creates = [asyncio.create_task(new_run(handle, thread)) for thread in threads]
            await asyncio.sleep(1.5)  # the lock, longer than several attempts
        made = await asyncio.gather(*creates)
    await asyncio.gather(*given_up, return_exceptions=True)
    assert len(given_up) == len(set(made)) == 8
    assert await handle.fetch("SELECT count(*) AS n FROM run") == [{"n": 9}]


async def test_a_cron_whose_run_the_database_does_not_take_stays_due(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler moves on after every failure; a date would be missed without a word."""
    from langgraph_runtime_holdfast.database import DatabaseAwayError
    from langgraph_runtime_holdfast.ops import Crons, run_put

    async def fail(*_: Any, **__: Any) -> list[Row]:
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(run_put, "_add", fail)
    cron_id, thread_id = uuid.uuid4(), await new_thread(handle)
    await handle.execute(ADD_CRON, {"id": cron_id, "assistant": ASSISTANT})
    async for cron in Crons.next(handle):
        with pytest.raises(DatabaseAwayError):
            await new_run(handle, thread_id)
        await Crons.set_next_run_date(handle, cron_id, cron["now"] + timedelta(days=1))
    assert await handle.fetch("SELECT next_run_date < now() AS is_due FROM cron") == [{"is_due": True}]


async def test_while_the_database_is_away_no_cron_is_due() -> None:
    """An error would be a stack in the log for each look, four a minute."""
    from langgraph_runtime_holdfast.ops import Crons

    class Away(Handle):
        async def fetch_one(self, *_: Any, **__: Any) -> Row | None:
            raise psycopg.OperationalError("connection refused")

    assert [cron async for cron in Crons.next(Away())] == []


async def test_a_stateless_result_reaches_its_listener_without_valkey(handle: Handle) -> None:
    """The thread is gone by then, so the result is kept apart."""
    from langgraph_runtime_holdfast.ops import Runs, Threads
    from langgraph_runtime_holdfast.ops.lease import heartbeat, held
    from langgraph_runtime_holdfast.ops.run_result import kept_result

    thread_id = await new_thread(handle)
    run_id = await new_run(handle, thread_id, temporary=True)
    place = await Runs.Stream.subscribe(run_id, thread_id)

    async def listen() -> list[tuple[bytes, bytes, bytes | None]]:
        events = Runs.Stream.join(run_id, stream_channel=place, thread_id=thread_id, ignore_404=True)
        return [event async for event in events]

    listening = asyncio.create_task(listen())
    _ = [each async for each in Runs.next(wait=False)]
    async with Runs.enter(run_id, thread_id, asyncio.get_running_loop(), False):
        await Runs.Stream.publish(run_id, "values", b'{"step":1}', thread_id=thread_id)
        await Runs.Stream.publish(run_id, "values", b'{"step":2}', thread_id=thread_id)
        await Threads.delete(handle, thread_id)
    async with asyncio.timeout(60):
        assert (await listening)[-1] == (b"values", b'{"step":2}', None)
    # For a listener in another process, to whom nothing was handed over.
    assert await kept_result(handle, run_id) == (b"values", b'{"step":2}')
    lease = held(run_id)
    assert lease is not None
    heartbeat().release(lease)


async def test_a_stateless_result_that_is_kept_late_is_waited_for(handle: Handle) -> None:
    """Its worker, in another process, is short of time after the run's end."""
    from langgraph_runtime_holdfast.ops import Runs, Threads
    from langgraph_runtime_holdfast.ops.run_result import keep_result

    thread_id = await new_thread(handle)
    run_id = await new_run(handle, thread_id, temporary=True, stream_mode=["values"])
    place = await Runs.Stream.subscribe(run_id, thread_id)

    async def listen() -> list[tuple[bytes, bytes, bytes | None]]:
        events = Runs.Stream.join(run_id, stream_channel=place, thread_id=thread_id, ignore_404=True)
        return [event async for event in events]

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.2)
    await Threads.delete(handle, thread_id)
    await asyncio.sleep(4.0)
    await keep_result(handle, run_id, "values", b'{"step":2}')
    async with asyncio.timeout(20):
        assert await listening == [(b"values", b'{"step":2}', None)]


async def test_a_blocked_loop_is_seen_and_what_waits_for_it_can_be_withdrawn(handle: Handle) -> None:
    """A stop leaves it behind; what has begun on it goes on."""
    from langgraph_runtime_holdfast.job_loop import JobLoop
    from langgraph_runtime_holdfast.loop_watchdog import LoopWatchdog

    release = threading.Event()
    changes: list[bool] = []
    worked: list[str] = []

    async def block() -> None:
        release.wait(60)

    async def work(name: str) -> str:
        worked.append(name)
        return name

    async def is_free() -> bool:
        return not watchdog.is_blocked(loop)

    async def is_blocked() -> bool:
        return watchdog.is_blocked(loop)

    loop = JobLoop("jobs-0", jobs=3, among_many=False)
    watchdog = LoopWatchdog([loop], lambda each: changes.append(watchdog.is_blocked(each)))
    watchdog.start()
    try:
        assert await loop.submit(work("before")) == "before"
        blocking = loop.submit(block())
        await until(is_blocked, "the loop is blocked")
        assert watchdog.blocked() == 1
        withdrawn, kept = loop.submit(work("withdrawn")), loop.submit(work("kept"))
        assert [withdrawn.withdraw(), withdrawn.withdraw(), blocking.withdraw()] == [True, False, False]
        await loop.close(0.1)
    finally:
        release.set()
    await until(is_free, "the loop is free")
    with pytest.raises(asyncio.CancelledError):
        await withdrawn
    assert await kept == "kept"
    assert worked == ["before", "kept"]
    assert {True, False} == set(changes)
    watchdog.end()
    await loop.close(30)


async def test_a_node_that_blocks_again_and_for_long_is_told_of_again(
    handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is spared a node that blocks now and then, and not one that never returns."""
    from langgraph_runtime_holdfast import loop_watchdog
    from langgraph_runtime_holdfast.job_loop import JobLoop

    told: list[str] = []
    log = SimpleNamespace(warning=lambda text, **_: told.append(text.split(":")[0]))
    monkeypatch.setattr(loop_watchdog, "logger", log)
    monkeypatch.setattr(loop_watchdog, "_TELL_AGAIN_SECONDS", 1.0)
    turns = threading.Semaphore(0)

    async def block() -> None:
        turns.acquire(timeout=60)

    async def is_told_twice() -> bool:
        return told.count("A node blocks the event loop of the jobs") == 2

    async def is_told_that_it_is_free() -> bool:
        return told[1:] == ["The event loop of the jobs is free again"]

    loop = JobLoop("jobs-0", jobs=1, among_many=False)
    watchdog = loop_watchdog.LoopWatchdog([loop], lambda each: turns.release() if not told else None)
    watchdog.start()
    try:
        await loop.submit(block())
        await until(is_told_that_it_is_free, "the first one has returned")
        second = loop.submit(block())
        await until(is_told_twice, "the second one, which does not return, is told of")
    finally:
        watchdog.end()
        turns.release()
    await second
    await loop.close(30)


async def test_a_job_that_ends_ends_no_process_that_another_one_waits_for(
    handle: Handle, tmp_path: Path
) -> None:
    """The pool of processes belongs to the loop, not to the job that was the first to use it."""
    from langgraph_runtime_holdfast.job_loop import JobLoop

    begun = tmp_path / "begun"

    async def first() -> None:
        await anyio.to_process.run_sync(os.getpid)
        await until(anyio.Path(begun).exists, "the other one works")

    async def second() -> int:
        return await anyio.to_process.run_sync(os.system, f"touch {begun}; sleep 1")

    jobs = JobLoop("jobs", jobs=2, among_many=False)
    try:
        ended = jobs.submit(first())
        working = jobs.submit(second())
        await ended
        assert await working == 0
    finally:
        await jobs.close(10.0)
