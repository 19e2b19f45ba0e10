"""A queue ten thousand deep: how fast it fills and drains, and whether a claim costs more when it is deep."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import psycopg
from langgraph_sdk.client import LangGraphClient

from benchmarks.cases import ASSISTANT
from benchmarks.results import Drain
from benchmarks.servers import place_for, running_server
from benchmarks.services import Services
from benchmarks.sides import holdfast
from benchmarks.statement_log import Statement, logged_statements, read_statements

RUNS = 10_000
CREATORS = 20
PARTS = 10
GIVE_UP_SECONDS = 600.0

_ENDED = "SELECT count(*) FROM run WHERE status NOT IN ('pending', 'running')"
_RIGHT = """
SELECT count(*) FROM run JOIN thread USING (thread_id)
WHERE run.status = 'success'
  AND (thread."values" ->> 'total')::int = (run.kwargs -> 'input' ->> 'number')::int * 2 + 1
"""


async def measure_drain(services: Services, folder: Path, note: Callable[[str], None]) -> Drain:
    """Fill the queue while nobody works, then let one worker drain it."""
    database_uri = services.make_database("bench_queue")
    api = place_for("queue-api", folder, database_uri, services.valkey_uri, folder)
    worker = place_for("queue-worker", folder, database_uri, services.valkey_uri, folder)
    with running_server("queue-api", api, holdfast(api, role="api")):
        create_per_second = await _fill(api.url)
        note(f"deep queue: {RUNS} runs wait")
        # Only the worker's sessions begin while this is on: its statements are what is in the log.
        with (
            logged_statements(services.postgres_uri, database_uri.rsplit("/", 1)[1]),
            psycopg.connect(database_uri, autocommit=True) as connection,
        ):
            connection.execute("SET log_min_duration_statement = -1")
            offset = services.postgres_log.stat().st_size
            with running_server("queue-worker", worker, holdfast(worker, role="queue")):
                per_second = await asyncio.to_thread(_watch, connection, note)
            right = _count(connection, _RIGHT)
    claims = [one for one in read_statements(services.postgres_log, offset) if _is_claim(one)]
    if not claims:
        note("deep queue: no claim is recognised in Postgres' log; has the statement changed?")
    depths, seconds = _by_depth(claims)
    return Drain(RUNS, create_per_second, per_second, seconds, depths, RUNS - right)


async def _fill(url: str) -> float:
    """Create the runs, each in a thread of its own; returns how many a second."""
    numbers = itertools.count(1)

    async def creator(client: LangGraphClient) -> None:
        while (number := next(numbers)) <= RUNS:
            await client.runs.create(
                str(uuid.uuid4()), ASSISTANT, input={"number": number}, if_not_exists="create"
            )

    began = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        await asyncio.gather(*(creator(LangGraphClient(http)) for _ in range(CREATORS)))
    return RUNS / (time.perf_counter() - began)


def _watch(connection: psycopg.Connection[tuple[int]], note: Callable[[str], None]) -> list[float]:
    """Look once a second until all have ended; returns how many ended in each second."""
    rates: list[float] = []
    ended, looked = _count(connection, _ENDED), time.monotonic()
    give_up = looked + GIVE_UP_SECONDS
    while ended < RUNS:
        if looked > give_up:
            note(f"deep queue: {RUNS - ended} runs have not ended after {GIVE_UP_SECONDS:.0f} s")
            break
        time.sleep(1.0)
        now_ended, now = _count(connection, _ENDED), time.monotonic()
        rates.append((now_ended - ended) / (now - looked))
        ended, looked = now_ended, now
    return rates


def _count(connection: psycopg.Connection[tuple[int]], query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def _is_claim(statement: Statement) -> bool:
    return "claim_runs" in statement.text


def _by_depth(claims: Sequence[Statement]) -> tuple[list[int], list[float]]:
    """Medians over parts of equal length; the queue is drained evenly enough to call a part a depth."""
    if len(claims) < PARTS:
        return [], []
    size = len(claims) // PARTS
    parts = [claims[number * size : (number + 1) * size] for number in range(PARTS)]
    depths = [RUNS - RUNS * number // PARTS for number in range(PARTS)]
    return depths, [statistics.median(one.seconds for one in part) for part in parts]
