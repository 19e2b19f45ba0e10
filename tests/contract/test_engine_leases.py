"""Leases on a real Postgres: what holds up their extension, who stops when, and who may take a run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from langgraph_runtime_holdfast.database import Handle
from tests.contract.api import until
from tests.contract.engine_pool import engine_pool
from tests.contract.engines import Services
from tests.contract.test_engine_queue import ADD_ASSISTANT, ASSISTANT, column, new_run, new_thread

LEASE_SECONDS = 2.0
MOST_TRIES = 3
ENOUGH_OF_A_PROCESSOR = 0.7


@pytest.fixture
def database_uri(services: Services) -> str:
    """A database of the test."""
    return services.make_database(f"leases_{uuid.uuid4().hex[:8]}")


@pytest.fixture
async def handle(database_uri: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Handle]:
    """A database of the test, and no Valkey at all."""
    monkeypatch.setenv("HOLDFAST_LEASE_SECONDS", str(LEASE_SECONDS))
    monkeypatch.setenv("HOLDFAST_POLL_SECONDS", "0.2")
    async with engine_pool(database_uri, monkeypatch) as opened:
        from langgraph_runtime_holdfast.ops.lease import heartbeat

        await opened.execute(ADD_ASSISTANT, {"id": ASSISTANT})
        yield opened
        # The next test has another database.
        heartbeat().end()


@pytest.fixture
def bystander(handle: Handle, database_uri: str) -> Iterator[psycopg.Connection]:
    """Somebody else's connection, who locks what the engine needs, for no longer than the test."""
    with psycopg.connect(database_uri) as connection:
        yield connection
        connection.rollback()


async def held_lease(handle: Handle) -> Any:
    """Claim a new run as the queue does, with the heartbeat that keeps it."""
    from langgraph_runtime_holdfast.ops import Runs
    from langgraph_runtime_holdfast.ops.lease import held

    run_id = await new_run(handle, await new_thread(handle))
    _ = [each async for each in Runs.next(wait=False)]
    lease = held(run_id)
    assert lease is not None
    return lease


async def test_a_save_that_takes_longer_than_a_lease_does_not_lose_it(
    handle: Handle, bystander: psycopg.Connection
) -> None:
    """A saver holds the run's row against its deletion, for as long as its states take to write."""
    lease = await held_lease(handle)
    bystander.execute("SELECT require_lease_v2(%s, %s)", [lease.run_id, lease.token])
    until_when = lease.held_until
    await asyncio.sleep(LEASE_SECONDS * 1.5)  # the save
    assert lease.held_until > until_when + LEASE_SECONDS
    assert await column(handle, "leased_until > now()", lease.run_id)
    assert not lease.has_lapsed


async def test_an_end_that_takes_longer_than_a_lease_does_not_lose_it(
    handle: Handle, bystander: psycopg.Connection
) -> None:
    """From its first part to its commit it has the lease's row for itself, which cannot be extended then."""
    from langgraph_api.asyncio import ValueEvent

    from langgraph_runtime_holdfast.ops.thread_status import end_run

    lease = await held_lease(handle)
    bystander.execute("SELECT FROM run WHERE run_id = %s FOR UPDATE", [lease.run_id])
    with lease.entered(ValueEvent()):
        ending = asyncio.create_task(
            end_run(handle, lease.thread_id, lease.run_id, "success", "graph", None, None)
        )
        await asyncio.sleep(LEASE_SECONDS * 1.5)  # the values
        assert not ending.done()
        assert not lease.has_lapsed
        bystander.rollback()
        await ending
        await asyncio.sleep(LEASE_SECONDS / 4)  # until its worker lets go of it
        assert not lease.has_lapsed
    assert await column(handle, "status", lease.run_id) == "success"


async def test_whatever_computes_in_other_threads_does_not_lose_it(handle: Handle) -> None:
    """Encoding tens of megabytes keeps Python's lock for a tenth of a second, and jobs queue for it."""
    for _ in range(MOST_TRIES):
        lease = await held_lease(handle)
        began, worked = time.monotonic(), time.process_time()
        until_when = lease.held_until

        def compute(lease: Any = lease, until_when: float = until_when) -> None:
            while lease.held_until < until_when + LEASE_SECONDS * 1.5 and not lease.has_lapsed:
                sum(range(700_000))  # one call, in which no other thread runs

        await asyncio.gather(*(asyncio.to_thread(compute) for _ in range(4)))
        if not lease.has_lapsed:
            return
        # Threads that compute take a whole processor; where they got less, others kept it from all of us.
        share = (time.process_time() - worked) / (time.monotonic() - began)
        assert share < ENOUGH_OF_A_PROCESSOR, "they alone kept the heartbeat from it"
    pytest.skip("the machine is too busy to tell who held the heartbeat up")


async def test_a_heartbeat_without_an_answer_begins_anew_though_all_its_runs_are_cancelled(
    handle: Handle,
) -> None:
    """Their ends are still to be written, under leases that somebody has to extend."""
    from langgraph_runtime_holdfast.ops.lease import heartbeat

    lease = await held_lease(handle)
    lease.cancel("interrupt", None)

    async def beats() -> Any:
        return heartbeat()._connection

    connection = await until(beats, "the heartbeat is connected")
    process_id = connection._pgconn.backend_pid
    os.kill(process_id, signal.SIGSTOP)
    try:
        until_when = lease.held_until

        async def is_extended() -> bool:
            return bool(lease.held_until > until_when + LEASE_SECONDS)

        await until(is_extended, "the lease is extended again")
    finally:
        os.kill(process_id, signal.SIGCONT)


async def test_a_worker_that_cannot_extend_stops_in_time_and_loses_nothing(
    handle: Handle, bystander: psycopg.Connection
) -> None:
    """Before anybody else may begin; what it has is saved once the table is free, and no attempt counts."""
    from langgraph_api.asyncio import ValueEvent

    from langgraph_runtime_holdfast.ops.lease import LeaseLapsedError, now
    from langgraph_runtime_holdfast.ops.run_enter import settle

    lease = await held_lease(handle)
    done = ValueEvent()
    with lease.entered(done):
        bystander.execute("LOCK TABLE run_inflight IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(LEASE_SECONDS + 5):
            reason = await done.wait()
    assert isinstance(reason, LeaseLapsedError)
    assert now() < lease.held_until
    writer = lease.writer()
    writer.batch().add_writes(
        [(str(lease.thread_id), "", "checkpoint", "task", "", 0, "channel", "bytes", b"finished")],
        str(lease.run_id),
        replace=False,
    )
    with pytest.raises(LeaseLapsedError):  # so that no next step begins
        await writer.save()
    settling = asyncio.create_task(settle(lease, reason))
    await asyncio.sleep(0.2)
    assert not settling.done()
    bystander.rollback()
    await settling
    assert await column(handle, "ARRAY[status, attempt::text]", lease.run_id) == ["pending", "0"]
    assert await handle.fetch_one("SELECT blob FROM checkpoint_writes") == {"blob": b"finished"}


async def test_nothing_is_taken_until_the_table_has_answered_for_a_whole_lease(
    handle: Handle, bystander: psycopg.Connection
) -> None:
    """A lock keeps every worker from extending, and ends: the living extend before a sweeper may take."""
    from langgraph_runtime_holdfast.ops.run_queue import claim
    from langgraph_runtime_holdfast.sweeper import sweep_on

    run_id = await new_run(handle, await new_thread(handle))
    sweeping = asyncio.create_task(sweep_on())
    try:
        await asyncio.sleep(LEASE_SECONDS * 1.5)  # it has seen enough
        ((_, lease, _),) = await claim(1)  # with no heartbeat
        bystander.execute("LOCK TABLE run_inflight IN SHARE MODE")
        await asyncio.sleep(LEASE_SECONDS * 1.5)
        bystander.rollback()
        freed_at = time.monotonic()
        assert await column(handle, "leased_until < now()", run_id)

        async def is_taken() -> bool:
            return bool(await column(handle, "status", run_id) == "pending")

        await until(is_taken, "the run of the dead worker is taken", seconds=LEASE_SECONDS * 5)
        assert time.monotonic() - freed_at > LEASE_SECONDS * 0.7
    finally:
        sweeping.cancel()
    assert lease.attempt == 1
