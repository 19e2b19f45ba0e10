"""What runs cost in the engine's tables, counted by Postgres: updates, pages and bytes, never seconds."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import Rollback

from langgraph_runtime_holdfast.database import Handle, Parameters, Row, close_pool
from langgraph_runtime_holdfast.foreign import FOLDER
from langgraph_runtime_holdfast.migrate import migrate
from tests.contract.api import until
from tests.contract.engine_pool import engine_pool
from tests.contract.engines import Services

ASSISTANT = uuid.uuid4()
ADD_ASSISTANT = "INSERT INTO assistant (assistant_id, graph_id, name) VALUES (%(id)s, 'g', 'g')"
# Strings that do not compress, so that they are stored apart, and of which an index would have each.
FILL = """
UPDATE thread SET "values" = (
    SELECT jsonb_object_agg(n::text, md5(n::text)) FROM generate_series(1, %(keys)s) AS n
) WHERE thread_id = %(id)s
"""
QUEUE = """
WITH made AS (
    INSERT INTO run (run_id, thread_id, assistant_id, kwargs, multitask_strategy, created_at)
    SELECT gen_random_uuid(), %(id)s, gen_random_uuid(), '{}', 'enqueue', now() + n * interval '1 microsecond'
    FROM generate_series(1, 5000) AS n
    RETURNING *
)
INSERT INTO run_inflight (run_id, thread_id, created_at, updated_at)
SELECT run_id, thread_id, created_at, created_at FROM made
"""
# Threads with so many runs each, in an order that is mixed, and what the first one of each is at.
MANY = """
WITH seeded AS (SELECT setseed(%(seed)s)), made AS (
    INSERT INTO thread (thread_id) SELECT gen_random_uuid() FROM seeded, generate_series(1, %(threads)s)
    RETURNING thread_id
), runs AS (
    INSERT INTO run (run_id, thread_id, assistant_id, kwargs, multitask_strategy, created_at)
    SELECT gen_random_uuid(), thread_id, gen_random_uuid(), '{}', 'enqueue', now() - random() * interval '1 h'
    FROM made, generate_series(1, %(depth)s)
    RETURNING *
)
INSERT INTO run_inflight (run_id, thread_id, created_at, updated_at)
SELECT run_id, thread_id, created_at, created_at FROM runs
"""
FIRSTS = """
WITH head AS (
    SELECT DISTINCT ON (thread_id) run_id, thread_id FROM run_inflight ORDER BY thread_id, created_at, run_id
), first AS (
    SELECT run_id, row_number() OVER (ORDER BY thread_id) & 7 AS kind FROM head
)
UPDATE run_inflight SET
    status = CASE WHEN kind = 1 THEN 'running' ELSE 'pending' END,
    available_at = CASE WHEN kind = 4 THEN now() + interval '1 hour' ELSE available_at END,
    deaths = CASE WHEN kind IN (2, 3) THEN 2 ELSE 0 END
FROM first WHERE first.run_id = run_inflight.run_id
"""
FIRST_BACKS_OFF = """
UPDATE run_inflight SET available_at = now() + interval '1 hour'
WHERE run_id = (SELECT run_id FROM run_inflight ORDER BY created_at, run_id LIMIT 1)
"""
LATER = "UPDATE {table} SET created_at = created_at + interval '1 hour'"
# As the version before the table of runs in flight has left them: runs at each stage.
STOPPED = """
INSERT INTO assistant (assistant_id, graph_id, name) VALUES (%(assistant)s, 'g', 'g');
INSERT INTO thread (thread_id, status) SELECT thread, 'busy' FROM unnest(%(threads)s::uuid[]) AS thread;
INSERT INTO run (run_id, thread_id, assistant_id, status, kwargs, multitask_strategy, created_at,
                 available_at, attempt, lease_token, leased_by, leased_until, deaths, first_error)
SELECT run_id, thread_id, %(assistant)s, status, '{}', 'enqueue', now() + age, now() + age, attempt, token,
       leased_by, now() + lasts, deaths, first_error
FROM (VALUES
    (%(ended)s::uuid, %(thread)s::uuid, 'error', interval '-4 s', 1, 4, NULL, NULL::interval, 0, 'e'),
    (%(running)s, %(thread)s, 'running', '-3 s', 2, 5, 'old', '1 h', 1, 'first'),
    (%(next)s, %(thread)s, 'pending', '-2 s', 0, NULL, NULL, NULL, 0, NULL),
    (%(waiting)s, %(other)s, 'pending', '-1 s', 0, NULL, NULL, NULL, 0, NULL),
    (%(delayed)s, %(other)s, 'pending', '1 h', 0, NULL, NULL, NULL, 0, NULL)
) AS row (run_id, thread_id, status, age, attempt, token, leased_by, lasts, deaths, first_error)
"""
OLD_ADD = """
SELECT is_stale, run_id FROM add_run(
    %(added)s, %(thread)s,
    (SELECT xmin::text FROM thread WHERE thread_id = %(thread)s), %(assistant)s,
    (SELECT xmin::text FROM assistant), 'pending', '{}', '{}', 'enqueue', NULL, 0, NULL, false, false,
    NULL, NULL, NULL, NULL
)
"""

WAITS = """
SELECT 1 FROM pg_locks JOIN pg_class ON relation = pg_class.oid WHERE relname = 'thread' AND NOT granted
"""
COPIES = """
SELECT (SELECT count(*) FROM thread), (SELECT count(*) FROM thread_order),
       (SELECT count(*) FROM thread_metadata), (SELECT count(*) FROM run_inflight)
"""


class Counting(Handle):
    """Counts what one kind of statement reads and writes, beside running it."""

    def __init__(self, kind: str) -> None:
        """Count the statements that have this in their text; running them twice must be the same as once."""
        self.kind = kind
        self.pages = self.wal_bytes = 0

    async def fetch(
        self, statement: str, parameters: Parameters = None, *, often: bool = False, **_: Any
    ) -> list[Row]:
        """Add to the counts, and return the rows."""
        if self.kind in statement:
            ((row,),) = [
                each.values()
                for each in await super().fetch(
                    f"EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) {statement}", parameters
                )
            ]
            plan = row[0]["Plan"]
            self.pages += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            self.wal_bytes += plan["WAL Bytes"]
        return await super().fetch(statement, parameters, often=often)


@pytest.fixture
async def handle(services: Services, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Handle]:
    """A database of the test."""
    database_uri = services.make_database(f"tables_{uuid.uuid4().hex[:8]}")
    async with engine_pool(database_uri, monkeypatch) as opened:
        from langgraph_runtime_holdfast.ops.lease import heartbeat

        await opened.execute(ADD_ASSISTANT, {"id": ASSISTANT})
        yield opened
        heartbeat().end()


async def new_thread(handle: Handle, **metadata: Any) -> UUID:
    """Create a thread as the API does."""
    from langgraph_runtime_holdfast.ops import Threads

    thread_id = uuid.uuid4()
    _ = [each async for each in await Threads.put(handle, thread_id, metadata=metadata, if_exists="raise")]
    return thread_id


async def new_run(handle: Handle, thread_id: UUID, **options: Any) -> UUID:
    """Create a run as the API does."""
    from langgraph_runtime_holdfast.ops import Runs

    run_id = uuid.uuid4()
    made = await Runs.put(
        handle,
        ASSISTANT,
        {"input": {"text": "x" * 200}, "config": {}, "stream_mode": ["values"]},
        thread_id=thread_id,
        run_id=run_id,
        metadata={},
        prevent_insert_if_inflight=False,
        **options,
    )
    assert (await anext(made))["run_id"] == run_id
    return run_id


async def work_on_all(handle: Handle) -> list[UUID]:
    """Claim and end what is due, until nothing is; returns the runs in their order."""
    from langgraph_runtime_holdfast.ops import Threads
    from langgraph_runtime_holdfast.ops.run_queue import claim

    done: list[UUID] = []
    while claimed := await claim(5):
        for run, lease, _ in claimed:
            with lease.entered(asyncio.Event()):
                state = {"values": {"text": "y" * 500, "run": str(run["run_id"])}, "next": [], "tasks": []}
                await Threads.set_joint_status(handle, lease.thread_id, lease.run_id, "success", "g", state)
            done.append(run["run_id"])
    return done


async def test_nearly_all_updates_of_runs_and_threads_touch_no_index(
    handle: Handle, services: Services
) -> None:
    """In a steady state: some hundred runs on some threads, all on pages that have been full before."""
    threads = [await new_thread(handle, ticket=number) for number in range(20)]
    for number in range(10):
        # Half of the runs are the first of their thread, which writes the thread's metadata as well.
        threads[10:] = [await new_thread(handle, ticket=number) for _ in range(10)]
        await asyncio.gather(*(new_run(handle, thread_id) for thread_id in threads))
        await asyncio.gather(work_on_all(handle), work_on_all(handle))
    row = await handle.fetch_one("SELECT current_database() AS name")
    assert row is not None
    # Backends tell their counts when they end, which they do a moment after they were left.
    await close_pool()
    async with await psycopg.AsyncConnection.connect(
        f"{services.postgres_uri.rsplit('/', 1)[0]}/{row['name']}", autocommit=True
    ) as connection:

        async def counted() -> dict[str, tuple[int, int]] | None:
            cursor = await connection.execute(
                "SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables "
                "WHERE relname IN ('run', 'thread') ORDER BY relname"
            )
            found = {name: (updates, hot) for name, updates, hot in await cursor.fetchall()}
            return found if (found["run"][0], found["thread"][0]) >= (200, 400) else None

        counts = await until(counted, "all updates are counted")
    assert (counts["run"][0], counts["thread"][0]) == (200, 400)
    assert all(hot >= 0.9 * updates for updates, hot in counts.values()), counts


async def test_what_a_create_and_a_patch_cost_does_not_depend_on_the_values(handle: Handle) -> None:
    """Neither pages nor bytes of the log; also with as many runs in the queue as there are."""
    from langgraph_runtime_holdfast.ops import Threads
    from langgraph_runtime_holdfast.ops.run_cancel import cancel_runs, find_runs

    async def costs(thread_id: UUID) -> dict[str, tuple[int, int]]:
        creating, patching = Counting("add_run"), Counting("UPDATE thread")
        for number in range(5):
            await new_run(creating, thread_id)
            runs = await find_runs(handle, None, thread_id=thread_id, statuses=["pending"])
            await cancel_runs(handle, runs, "interrupt", None)
            await Threads.patch(
                patching, thread_id, metadata={"number": number}, read_mask_paths=["thread_id"]
            )
        return {each.kind: (each.pages, each.wal_bytes) for each in (creating, patching)}

    thread_id = await new_thread(handle)
    await costs(thread_id)  # what is read once
    small = await costs(thread_id)
    await handle.execute(FILL, {"id": thread_id, "keys": 50_000})
    large = await costs(thread_id)
    # A page that is written for the first time after a checkpoint is in the log whole.
    limits = {kind: (pages + 60, wal + 5 * 8192 * 4) for kind, (pages, wal) in small.items()}
    for kind, (pages, wal_bytes) in large.items():
        assert pages <= limits[kind][0], (kind, small, large)
        assert wal_bytes <= limits[kind][1], (kind, small, large)


async def test_a_long_queue_makes_neither_creates_nor_claims_dear(handle: Handle) -> None:
    """Plans that were made while it was empty must not read it whole."""
    from langgraph_runtime_holdfast.ops.run_queue import _CLAIM

    thread_id = await new_thread(handle)
    parameters = {"limit": 5, "worker": "w", "seconds": 60, "may_suspect": True}
    for _ in range(10):
        await new_run(handle, thread_id)
        await work_on_all(handle)
    await handle.execute(QUEUE, {"id": thread_id})
    creating, claiming = Counting("add_run"), Counting("claim_runs")
    await new_run(creating, thread_id)
    assert creating.pages < 200
    # Its first one runs from now on; the others are in the way of the other thread's.
    assert len(await handle.fetch(_CLAIM, parameters)) == 1
    other = await new_run(handle, await new_thread(handle))
    await claiming.fetch(_CLAIM, parameters)
    claimed = await handle.fetch("SELECT run_id FROM run_inflight WHERE status = 'running'")
    assert (other in {row["run_id"] for row in claimed}, len(claimed)) == (True, 2)
    assert claiming.pages < 1000


async def test_a_claim_steps_over_threads_and_takes_what_the_version_before_would(handle: Handle) -> None:
    """Deep threads whose first run runs, backs off or may kill its worker, others, and what is later."""
    claim = "SELECT run_id FROM {name}(most => 10, worker => 'w', lease_seconds => 60, may_suspect => {may})"
    for seed, depth in ((0.1, 120), (0.2, 40), (0.3, 2)):
        await handle.execute("DELETE FROM thread")
        await handle.execute(MANY, {"seed": seed, "threads": 600 // depth, "depth": depth})
        await handle.execute(FIRSTS)
        for may_suspect in ("true", "false"):
            taken = []
            for name in ("claim_runs", "claim_runs_v2"):
                with contextlib.suppress(Rollback):
                    async with handle.transaction() as tx:
                        rows = await tx.fetch(claim.format(name=name, may=may_suspect))
                        taken.append([row["run_id"] for row in rows])
                        raise Rollback
            assert taken[0] == taken[1], (seed, depth, may_suspect)
            assert taken[0]
    # Behind one run that backs off; the version before looks at each of them, and at those before it.
    thread_id = await new_thread(handle)
    await handle.execute("DELETE FROM thread WHERE thread_id <> %(id)s", {"id": thread_id})
    await handle.execute(QUEUE, {"id": thread_id})
    await handle.execute(FIRST_BACKS_OFF)
    other = await new_run(handle, await new_thread(handle))
    claiming = Counting("claim_runs")
    await claiming.fetch(claim.format(name="claim_runs_v2", may="true"))
    (claimed,) = await handle.fetch("SELECT run_id FROM run_inflight WHERE status = 'running'")
    assert claimed["run_id"] == other
    assert claiming.pages < 4000, "less than one for each that waits"


async def test_a_clock_that_is_behind_lets_nobody_overtake(handle: Handle) -> None:
    """After a failover those that wait were created in the future, as the new primary has it."""
    thread_id = await new_thread(handle)
    delayed = await new_run(handle, thread_id, after_seconds=3600)
    waiting = [await new_run(handle, thread_id) for _ in range(2)]
    for table in ("run", "run_inflight"):
        await handle.execute(LATER.format(table=table))
    waiting += [await new_run(handle, thread_id) for _ in range(2)]
    assert await work_on_all(handle) == waiting
    # Nobody is held up by one that is to wait, and that one by nobody.
    last = await new_run(handle, thread_id)
    assert await work_on_all(handle) == [last]
    await handle.execute("UPDATE run_inflight SET available_at = now(), created_at = now()")
    assert await work_on_all(handle) == [delayed]


async def connected(database_uri: str) -> psycopg.AsyncConnection[Any]:
    """A client of a server of the version before."""
    return await psycopg.AsyncConnection.connect(
        database_uri, autocommit=True, cursor_factory=psycopg.AsyncClientCursor
    )


async def made_by_the_version_before(services: Services) -> str:
    """A database as it was before there was a table of runs in flight."""
    database_uri = services.make_database(f"tables_{uuid.uuid4().hex[:8]}")
    async with await connected(database_uri) as connection:
        await connection.execute("CREATE TABLE holdfast_migration (version int PRIMARY KEY, name text)")
        for version in (1, 2, 3):
            (path,) = FOLDER.glob(f"{version:04}_*.sql")
            await connection.execute(path.read_bytes())
            await connection.execute("INSERT INTO holdfast_migration VALUES (%s, %s)", [version, path.stem])
    return database_uri


async def test_runs_that_were_in_flight_go_on_after_the_migration(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker of one still writes; the others wait in their order; the version before can still create."""
    from langgraph_runtime_holdfast.ops import Threads
    from langgraph_runtime_holdfast.ops.lease import Lease, heartbeat

    names = ("assistant", "thread", "other", "ended", "running", "next", "waiting", "delayed", "added")
    ids: dict[str, Any] = {name: uuid.uuid4() for name in names}
    ids |= {"assistant": ASSISTANT, "threads": [ids["thread"], ids["other"]]}
    database_uri = await made_by_the_version_before(services)
    async with await connected(database_uri) as connection:
        await connection.execute(STOPPED, ids)
    async with engine_pool(database_uri, monkeypatch) as handle:
        shown = await handle.fetch("SELECT run_id, status, attempt, deaths, first_error FROM run_shown")
        assert {row.pop("run_id"): tuple(row.values()) for row in shown} == {
            ids["ended"]: ("error", 1, None, "e"),
            ids["running"]: ("running", 2, 1, "first"),
            **dict.fromkeys((ids["next"], ids["waiting"], ids["delayed"]), ("pending", 0, 0, None)),
        }
        ((added,),) = [[await handle.fetch_one(OLD_ADD, ids)]]
        assert added == {"is_stale": False, "run_id": ids["added"]}
        lease = Lease(ids["running"], ids["thread"], 5, attempt=2)
        with lease.entered(asyncio.Event()):
            await Threads.set_joint_status(handle, ids["thread"], ids["running"], "success", "g", None)
        assert await work_on_all(handle) == [ids["next"], ids["waiting"], ids["added"]]
        ended = await handle.fetch("SELECT run_id FROM run WHERE status = 'success'")
        assert {row["run_id"] for row in ended} == {
            ids[name] for name in ("running", "next", "waiting", "added")
        }
        heartbeat().end()


async def test_servers_that_work_on_while_the_database_is_migrated_lose_nothing(services: Services) -> None:
    """One is in the middle of a create, which locks a thread, then writes a run; it is waited for."""
    ids: dict[str, Any] = {name: uuid.uuid4() for name in ("thread", "added")} | {"assistant": ASSISTANT}
    database_uri = await made_by_the_version_before(services)
    async with await connected(database_uri) as server, await connected(database_uri) as looking:
        await server.execute(ADD_ASSISTANT, {"id": ASSISTANT})
        await server.execute("INSERT INTO thread (thread_id) VALUES (%(thread)s)", ids)
        async with server.transaction():
            await server.execute("SELECT 1 FROM thread WHERE thread_id = %(thread)s FOR NO KEY UPDATE", ids)
            migrating = asyncio.create_task(migrate(database_uri, timeout_seconds=30))
            # Of Postgres' locks nobody is told.
            while not (  # noqa: ASYNC110
                migrating.done() or await (await looking.execute(WAITS)).fetchone()
            ):
                await asyncio.sleep(0.01)
            await server.execute(OLD_ADD, ids)
            await server.execute("INSERT INTO thread (thread_id) VALUES (gen_random_uuid())")
        await migrating
        found = await (await looking.execute(COPIES)).fetchone()
    assert found == (2, 2, 2, 1)
