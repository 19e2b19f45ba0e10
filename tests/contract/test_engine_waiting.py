"""What gauges and autoscalers ask of the queue, and that it costs little however many runs wait."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator

import pytest

from langgraph_runtime_holdfast.database import Handle
from langgraph_runtime_holdfast.metrics.gauges import sample
from langgraph_runtime_holdfast.ops.run_queue import stats
from tests.contract.engine_pool import engine_pool
from tests.contract.engines import Services

FILL = """
INSERT INTO run_inflight (run_id, thread_id, status, created_at, updated_at)
SELECT gen_random_uuid(),
    ('00000000-0000-0000-0000-' || lpad((%(first)s + n %% %(threads)s)::text, 12, '0'))::uuid, 'pending',
    now() - %(age)s * interval '1 second' + n * interval '1 ms',
    now() - %(age)s * interval '1 second' + n * interval '1 ms'
FROM generate_series(0, %(runs)s - 1) AS n
"""
WAITING = """
SELECT count(*) AS n, extract(epoch FROM max(now() - since))::float8 AS oldest
FROM waiting_runs_v1(most => 200)
"""
BACK_OFF = """
UPDATE run_inflight SET available_at = now() + interval '1 hour'
WHERE run_id = (SELECT run_id FROM run_inflight ORDER BY created_at LIMIT 1)
"""
RUNS = 20_000


@pytest.fixture
async def handle(services: Services, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Handle]:
    async with engine_pool(services.make_database(f"waiting_{uuid.uuid4().hex[:8]}"), monkeypatch) as opened:
        # The queue's rows alone, without their runs; and no statistics, as when much comes at once.
        await opened.execute("ALTER TABLE run_inflight SET (autovacuum_enabled = false)")
        await opened.execute("ALTER TABLE run_inflight DISABLE TRIGGER ALL")
        yield opened


async def blocks_read(handle: Handle) -> int:
    rows = await handle.fetch("EXPLAIN (ANALYZE, BUFFERS, FORMAT json)" + WAITING)
    ((_, told),) = rows[0].items()
    plan = (told if isinstance(told, list) else json.loads(told))[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize(("threads", "waiting"), [(5, 5), (RUNS, 200)])
async def test_it_reads_little_of_a_long_queue(handle: Handle, threads: int, waiting: int) -> None:
    await handle.execute(FILL, {"runs": RUNS, "threads": threads, "age": 3600.0, "first": 0})
    row = await handle.fetch_one(WAITING)
    assert row is not None
    assert row["n"] >= waiting
    assert row["oldest"] == pytest.approx(3600, abs=60)
    # The queue's rows alone are some 500 blocks; to look behind each run would read 60,000 and more.
    assert await blocks_read(handle) < 8_000
    assert (await sample())["oldest_pending"] == pytest.approx(row["oldest"], abs=60)


async def test_it_sees_the_first_run_of_a_thread_behind_many_of_another(handle: Handle) -> None:
    await handle.execute(FILL, {"runs": 1000, "threads": 1, "age": 3600.0, "first": 0})
    await handle.execute(BACK_OFF)
    assert await handle.fetch_one(WAITING) == {"n": 0, "oldest": None}
    await handle.execute(FILL, {"runs": 1, "threads": 1, "age": 90.0, "first": 1})
    row = await handle.fetch_one(WAITING)
    assert row is not None
    assert (row["n"], round(row["oldest"])) == (1, 90)


async def test_the_page_knows_who_waits_behind_a_run_of_its_thread(handle: Handle) -> None:
    for age, first in ((300.0, 0), (200.0, 0), (100.0, 1), (50.0, 2)):
        await handle.execute(FILL, {"runs": 1, "threads": 1, "age": age, "first": first})
    await handle.execute("UPDATE run_inflight SET status = 'running' WHERE age(now(), created_at) > '250 s'")
    told = {name: round(value) for name, value in (await stats(handle)).items()}
    assert told == {
        "n_pending": 3,
        "n_running": 1,
        "pending_runs_wait_time_max_secs": 200,
        "pending_runs_wait_time_med_secs": 100,
        "pending_unblocked_runs_wait_time_max_secs": 100,
    }
