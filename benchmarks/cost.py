"""What a run costs: processor of each part, WAL, disk, connections. Some minutes; for `holdfast capacity`.

    python -m benchmarks.cost --output mine.json && holdfast capacity --measured mine.json …

Runs that do nothing but write state, a few at a time, so that nothing is saturated and what is counted is
theirs. Each kind is measured in rounds; of times the least counts, since neighbours only add to them. WAL is
without the whole pages that follow a checkpoint: how many these are depends on the size of the database.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.cost_fit import cell_of, fitted, line
from benchmarks.cost_load import WARM_UP_SECONDS, Wanted, connected, measured_load, run_once
from benchmarks.cost_rig import JOBS, Rig, Used, count_well, more_queues, running_rig, statements_of
from benchmarks.services import Services, running_services
from benchmarks.setting import machine, today, versions, work_folder
from langgraph_runtime_holdfast.capacity.measured import Cell, Claims, Held, Idle, Measured, Source
from langgraph_runtime_holdfast.feed import DATA, EVENT
from langgraph_runtime_holdfast.local.errors import LocalStackError
from langgraph_runtime_holdfast.ops.signals import WAKE

KINDS = [(steps, kilobytes) for kilobytes in (1, 20, 500) for steps in (2, 5, 10)]
IDLE_SECONDS = 10.0
HOLD_SECONDS = 15.0
PACE_A_SECOND = 8.0
TOLD_SECONDS = 11.0
"""Within which a process of Postgres that idles has told what it counted."""
RUNNING = (0, 1_000, 10_000)
_HELD_ROWS = """
WITH made AS (
    INSERT INTO thread (thread_id, status)
    SELECT gen_random_uuid(), 'busy' FROM generate_series(1, %(more)s)
    RETURNING thread_id
), runs AS (
    INSERT INTO run (run_id, thread_id, assistant_id, multitask_strategy, kwargs)
    SELECT gen_random_uuid(), thread_id, (SELECT assistant_id FROM assistant LIMIT 1), 'enqueue', '{}'
    FROM made
    RETURNING run_id, thread_id
)
INSERT INTO run_inflight (run_id, thread_id, status, created_at, updated_at, leased_by, leased_until)
SELECT run_id, thread_id, 'running', now(), now(), 'nobody', now() + interval '1 day' FROM runs
"""
_RUNNING = "SELECT count(*) FROM run_inflight WHERE status = 'running'"
_START_MS = """
SELECT percentile_cont(0.5) WITHIN GROUP (
    ORDER BY (thread."values" ->> 'began_at')::float8 - extract(epoch FROM run.created_at)::float8) * 1000
FROM run JOIN thread USING (thread_id)
WHERE run.created_at > to_timestamp(%(since)s) AND thread."values" ? 'began_at'
"""

Note = Callable[[str], None]


async def measure_kinds(rig: Rig, wanted: Wanted, note: Note) -> tuple[list[Cell], float]:
    """Measure each kind of run; the second is the API's time for a run that is streamed."""
    seen: dict[tuple[int, int], list[tuple[int, Used]]] = {kind: [] for kind in KINDS}
    streamed: list[float] = []
    async with connected(rig) as client:
        for number in range(wanted.rounds):
            for steps, kilobytes in KINDS:
                given = {"steps": steps, "kilobytes": kilobytes}
                runs, used = await measured_load(rig, client, given, wanted)
                seen[steps, kilobytes].append((runs, used))
                note(f"round {number + 1}: {steps} steps of {kilobytes} kB, {runs} runs")
            runs, used = await measured_load(rig, client, {"steps": 5, "kilobytes": 20}, wanted, stream=True)
            streamed.append(used.api_ms / runs)
    return [cell_of(*kind, each) for kind, each in seen.items()], min(streamed)


async def measure_idle(rig: Rig) -> Idle:
    """What is used while nothing is to be done."""
    await asyncio.sleep(TOLD_SECONDS)
    before, spent_ms = rig.used(), rig.exact_ms("postgres")
    await asyncio.sleep(IDLE_SECONDS)
    spent_ms, used = rig.exact_ms("postgres") - spent_ms, rig.used().since(before)
    return Idle(postgres_ms=spent_ms / IDLE_SECONDS, commits=used.commits / IDLE_SECONDS)


async def measure_held(rig: Rig, idle: Idle) -> Held:
    """What runs cost that only wait, in all slots of one queue."""
    async with connected(rig) as client:
        given = {"steps": 1, "kilobytes": 0, "hold_seconds": HOLD_SECONDS + 3}
        runs = [asyncio.create_task(run_once(client, given)) for _ in range(JOBS)]
        while rig.row(_RUNNING)[0] < JOBS:  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.05)
        before, spent = rig.used(), {name: rig.exact_ms(name) for name in ("postgres", "queue")}
        await asyncio.sleep(HOLD_SECONDS)
        spent = {name: rig.exact_ms(name) - ms for name, ms in spent.items()}
        used = rig.used().since(before)
        await asyncio.gather(*runs)
    seconds = HOLD_SECONDS * JOBS
    return Held(
        postgres_ms=max(0.0, spent["postgres"] - idle.postgres_ms * HOLD_SECONDS) / seconds,
        wal_bytes=used.wal_bytes / seconds,
        queue_ms=spent["queue"] / seconds,
    )


async def measure_pace(rig: Rig, queues: int, seconds: float) -> tuple[float, float]:
    """Runs at a steady pace; returns how often queues looked for each, and the ms until its start."""
    await asyncio.sleep(TOLD_SECONDS)
    since, started = time.time(), []
    async with connected(rig) as client:
        before = rig.used()
        for _ in range(round(PACE_A_SECOND * seconds)):
            started.append(asyncio.create_task(run_once(client, {"steps": 2, "kilobytes": 1})))
            await asyncio.sleep(1 / PACE_A_SECOND)
        await asyncio.gather(*started)
        await asyncio.sleep(TOLD_SECONDS)
        # Meanwhile each looked once a second.
        looks = rig.used().since(before).looks - queues * TOLD_SECONDS
    row = rig.database.execute(_START_MS.encode(), {"since": since}).fetchone()
    assert row is not None
    return looks / len(started), row[0]


def measure_claims(rig: Rig, seconds: float) -> list[Claims]:
    """Wake the queue as often as can be, while nothing waits and more and more runs execute."""
    feed = next(iter(rig.valkey.scan_iter(match="*signals")))

    def wake_for(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            rig.valkey.xadd(feed, {EVENT: WAKE, DATA: b"benchmark"}, maxlen=1000)
            time.sleep(0.0005)

    found: list[Claims] = []
    there = 0
    for running in RUNNING:
        rig.database.execute(_HELD_ROWS.encode(), {"more": running - there})
        there = running
        rig.database.execute("VACUUM ANALYZE run_inflight")
        wake_for(WARM_UP_SECONDS + 1)
        before = rig.used()
        wake_for(seconds)
        used = rig.used().since(before)
        found.append(
            Claims(
                running=running,
                postgres_ms=used.postgres_ms / used.looks,
                queue_ms=used.queue_ms / used.looks,
            )
        )
    return found


def measure(services: Services, folder: Path, wanted: Wanted, note: Note) -> dict[str, Any]:
    """Measure all; returns the fields of `Measured` but its source."""
    count_well(services)
    with running_rig(services, folder, "cost") as rig:
        idle = asyncio.run(measure_idle(rig))
        note(f"idle: {idle}")
        # Before large states are there, which Postgres would clean up meanwhile.
        held = asyncio.run(measure_held(rig, idle))
        note(f"held: {held}")
        cells, stream_api_ms = asyncio.run(measure_kinds(rig, wanted, note))
        statements = asyncio.run(_statements(rig, services))
        looks = {1: asyncio.run(measure_pace(rig, 1, wanted.seconds * 2))}
        with more_queues(services, folder, "cost", 2):
            looks[3] = asyncio.run(measure_pace(rig, 3, wanted.seconds * 2))
        note(f"looks a run, and ms until its start: {looks}")
        claims = measure_claims(rig, wanted.seconds)
        note(f"claims: {claims}")
    of_run, of_step, of_kilobyte = fitted(cells)
    (wait,) = [each.api_ms for each in cells if (each.steps, each.kilobytes) == (5, 20)]
    return {
        "cells": cells,
        "of_run": of_run,
        "of_step": of_step,
        "of_kilobyte": of_kilobyte,
        "statements_of_run": statements[0],
        "statements_of_step": statements[1],
        "stream_api_ms": stream_api_ms,
        "wait_api_ms": wait,
        "start_ms": min(each[1] for each in looks.values()),
        "held": held,
        "idle": idle,
        "claims": claims,
        "looks_a_run": {queues: each[0] for queues, each in looks.items()},
    }


async def _statements(rig: Rig, services: Services, runs: int = 15) -> tuple[float, float]:
    counted: list[tuple[float, float]] = []
    async with connected(rig) as client:
        for steps in (2, 5, 10):
            with statements_of(services) as found:
                for _ in range(runs):
                    await run_once(client, {"steps": steps, "kilobytes": 1})
            counted.append((steps, len(found) / runs))
    return line(counted)


def main(
    output: Annotated[Path, typer.Option(help="Where to write what was measured.")] = Path("measured.json"),
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="How long each kind of run is measured.")] = 4.0,
    runs: Annotated[int, typer.Option(min=1, help="Longer, until so many have ended.")] = 40,
) -> None:
    """Measure what a run costs on this machine."""
    started = time.monotonic()

    def note(text: str) -> None:
        print(f"{time.monotonic() - started:5.0f} s  {text}", flush=True)

    command = f"python -m benchmarks.cost --rounds {rounds} --seconds {seconds:g} --runs {runs}"
    source = Source(date=today(), machine=machine(), versions=versions(), command=command)
    try:
        with work_folder() as folder, running_services(folder) as services:
            measured = Measured(
                source=source, **measure(services, folder, Wanted(rounds, seconds, runs), note)
            )
    except LocalStackError as error:
        sys.exit(str(error))
    output.write_text(measured.rounded().model_dump_json(indent=1) + "\n", encoding="utf-8")
    note(f"wrote {output}")


if __name__ == "__main__":
    typer.run(main)
