"""Checkpoints that are saved behind a run's back, on a real Postgres: nothing of them is lost or doubled."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from langgraph_runtime_holdfast.checkpoint_writer import CheckpointWriter
from langgraph_runtime_holdfast.database import Handle
from tests.contract.engine_pool import engine_pool
from tests.contract.engine_rows import insert_run
from tests.contract.engines import Services

TOKEN = 7


@pytest.fixture(scope="module")
def database_uri(services: Services) -> str:
    """A database of this module."""
    return services.make_database("writer")


@pytest.fixture
async def handle(database_uri: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Handle]:
    """The engine's pool in this test's loop."""
    async with engine_pool(database_uri, monkeypatch) as opened:
        yield opened


@pytest.fixture
async def run_id(handle: Handle) -> uuid.UUID:
    """A run whose worker has the lease `TOKEN`."""
    return await insert_run(handle, uuid.uuid4(), "running", token=TOKEN)


async def _save(writer: CheckpointWriter, thread: str, number: int) -> None:
    """Save a step: what its task wrote, then its checkpoint with a blob."""
    checkpoint_id = f"{number:04}"
    row = (thread, "", checkpoint_id, f"task-{number}", "", 0, "log", "msgpack", b"w%d" % number)
    writer.batch().add_writes([row], None, replace=False)
    await writer.save()
    batch = writer.batch()
    batch.add_blob(thread, "", "log", checkpoint_id, "msgpack", b"b%d" % number)
    batch.add_checkpoint(thread, "", checkpoint_id, None, {"id": checkpoint_id}, {"step": number})
    await writer.save()


async def _saved(handle: Handle, thread: str) -> list[tuple[Any, ...]]:
    rows = await handle.fetch(
        "SELECT c.checkpoint_id, c.metadata->>'step' AS step, b.blob, w.blob AS written FROM checkpoints c "
        "JOIN checkpoint_blobs b ON b.thread_id = c.thread_id AND b.version = c.checkpoint_id "
        "JOIN checkpoint_writes w ON w.thread_id = c.thread_id AND w.checkpoint_id = c.checkpoint_id "
        "WHERE c.thread_id = %s ORDER BY 1",
        [thread],
    )
    return [tuple(row.values()) for row in rows]


def _expected(count: int) -> list[tuple[Any, ...]]:
    return [(f"{n:04}", str(n), b"b%d" % n, b"w%d" % n) for n in range(count)]


async def test_what_is_saved_behind_is_all_there_after_settling(handle: Handle, run_id: uuid.UUID) -> None:
    """Also what was added while a statement was under way, and more than one batch holds."""
    writer = CheckpointWriter(run_id, TOKEN, behind=True)
    for number in range(200):
        await _save(writer, str(run_id), number)
    await writer.settle()
    assert await _saved(handle, str(run_id)) == _expected(200)


async def test_who_does_not_save_behind_finds_each_step_at_once(handle: Handle, run_id: uuid.UUID) -> None:
    """That is the durability "sync"."""
    writer = CheckpointWriter(run_id, TOKEN, behind=False)
    for number in range(3):
        await _save(writer, str(run_id), number)
        assert await _saved(handle, str(run_id)) == _expected(number + 1)


async def test_connections_that_die_lose_no_checkpoint(
    handle: Handle, services: Services, database_uri: str, run_id: uuid.UUID
) -> None:
    """A statement whose connection was killed is written again."""
    writer = CheckpointWriter(run_id, TOKEN, behind=True)
    async with await psycopg.AsyncConnection.connect(services.postgres_uri, autocommit=True) as admin:
        for number in range(100):
            await _save(writer, str(run_id), number)
            if number % 20 == 0:
                name = database_uri.rsplit("/", 1)[1]
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
                )
    await writer.settle()
    assert await _saved(handle, str(run_id)) == _expected(100)


async def test_a_lost_lease_saves_nothing_and_says_so(handle: Handle, run_id: uuid.UUID) -> None:
    """Neither what comes now nor what comes after."""
    from langgraph_runtime_holdfast.ops.lease import LeaseLostError

    writer = CheckpointWriter(run_id, TOKEN - 1, behind=True)
    await _save(writer, str(run_id), 0)
    with pytest.raises(LeaseLostError):
        await writer.settle()
    await handle.execute("UPDATE run_inflight SET lease_token = %s WHERE run_id = %s", [TOKEN - 1, run_id])
    with pytest.raises(LeaseLostError):
        await _save(writer, str(run_id), 1)
    assert await _saved(handle, str(run_id)) == []


async def test_what_a_task_wrote_first_stays_except_for_its_error(handle: Handle, run_id: uuid.UUID) -> None:
    """In one batch as over several, as the library's own statements have it."""
    for together in (True, False):
        thread = f"{run_id}-{together}"
        writer = CheckpointWriter(run_id, TOKEN)
        for replace, blob in ((False, b"first"), (False, b"second"), (True, b"error"), (False, b"late")):
            for index in (0, -1) if replace is False else (-1,):
                row = (thread, "", "c", "t", "", index, "log", "msgpack", blob)
                writer.batch().add_writes([row], None, replace=replace)
            if not together:
                await writer.save()
        await writer.save()
        rows = await handle.fetch(
            "SELECT idx, blob FROM checkpoint_writes WHERE thread_id = %s ORDER BY idx", [thread]
        )
        assert [tuple(row.values()) for row in rows] == [(-1, b"error"), (0, b"first")]


async def test_who_builds_on_a_step_that_the_database_has_lost_leaves_no_hole(
    handle: Handle, run_id: uuid.UUID
) -> None:
    """A standby that was behind took over: it has the run and its lease, and not what was saved last."""
    from langgraph_runtime_holdfast.ops.lease import StepsLostError

    writer = CheckpointWriter(run_id, TOKEN, behind=True)
    for number in range(2):
        await _save(writer, str(run_id), number)
        await writer.settle()
    for lost in (
        "DELETE FROM checkpoints WHERE thread_id = %s AND checkpoint_id = '0001'",
        "DELETE FROM checkpoint_blobs WHERE thread_id = %s AND version = '0001'",
        "DELETE FROM checkpoint_writes WHERE thread_id = %s AND checkpoint_id = '0001'",
    ):
        await handle.execute(lost, [str(run_id)])
    await _save(writer, str(run_id), 2)
    with pytest.raises(StepsLostError):
        await writer.settle()
    assert await _saved(handle, str(run_id)) == _expected(1)
    # Whoever goes on from what is there may.
    again = CheckpointWriter(run_id, TOKEN, behind=True)
    for number in range(1, 3):
        await _save(again, str(run_id), number)
    await again.settle()
    assert await _saved(handle, str(run_id)) == _expected(3)


async def test_whoever_is_deleted_is_told_so_and_not_that_steps_were_lost(
    handle: Handle, run_id: uuid.UUID
) -> None:
    """Its checkpoints are gone as well, but no standby is to be looked at for that."""
    from langgraph_runtime_holdfast.ops.lease import LeaseLostError
    from langgraph_runtime_holdfast.ops.thread_removal import delete_threads

    row = await handle.fetch_one("SELECT thread_id FROM run WHERE run_id = %s", [run_id])
    assert row is not None
    writer = CheckpointWriter(run_id, TOKEN, behind=True)
    await _save(writer, str(row["thread_id"]), 0)
    await writer.settle()
    await delete_threads(handle, [row["thread_id"]], None)
    await _save(writer, str(row["thread_id"]), 1)
    with pytest.raises(LeaseLostError):
        await writer.settle()


async def test_the_step_before_is_found_by_the_index(handle: Handle, run_id: uuid.UUID) -> None:
    """Also by a plan that was made while there were few: it is kept until the table is analyzed again."""
    for number in range(8):
        await _save(CheckpointWriter(run_id, TOKEN), str(run_id), number)
    await handle.execute("ANALYZE checkpoints")
    scans = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'checkpoints'"
    async with handle.transaction() as tx:
        before = await tx.fetch_one(scans)
        writer = CheckpointWriter(run_id, TOKEN, transaction=tx)
        for number in range(8, 28):
            await _save(writer, str(run_id), number)
        assert await tx.fetch_one(scans) == before
