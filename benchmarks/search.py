"""Searching among many threads, as lists in a console and look-ups by a business key do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import psycopg
from langgraph_sdk.client import LangGraphClient

from benchmarks.results import Search, quantile
from benchmarks.servers import place_for, running_server
from benchmarks.services import Services
from benchmarks.sides import holdfast

THREADS = 100_000
TENANTS = 1000
REPETITIONS = 40

# Straight into the table: a hundred thousand requests would measure the client. Ages and statuses are mixed.
_FILL = """
INSERT INTO thread (thread_id, status, metadata, "values", created_at, updated_at, state_updated_at)
SELECT gen_random_uuid(), CASE WHEN n %% 50 = 0 THEN 'interrupted' ELSE 'idle' END,
       jsonb_build_object('tenant', 'tenant-' || n %% %(tenants)s, 'ticket', n),
       jsonb_build_object('total', n, 'visited', jsonb_build_array('first', 'second', 'third')), at, at, at
FROM generate_series(1, %(threads)s) AS n, LATERAL (SELECT now() - n * interval '7 seconds' AS at) AS age
"""

Ask = Callable[[LangGraphClient, int], Awaitable[int]]


async def _newest(client: LangGraphClient, _: int) -> int:
    return len(await client.threads.search(limit=10))


async def _deep(client: LangGraphClient, number: int) -> int:
    return len(await client.threads.search(limit=10, offset=THREADS // 2 + number))


async def _tenant(client: LangGraphClient, number: int) -> int:
    return len(await client.threads.search(metadata={"tenant": f"tenant-{number}"}, limit=10))


async def _ticket(client: LangGraphClient, number: int) -> int:
    return 10 * len(await client.threads.search(metadata={"ticket": number + 1}, limit=10))


async def _waiting(client: LangGraphClient, _: int) -> int:
    return len(await client.threads.search(status="interrupted", limit=10))


async def _values(client: LangGraphClient, number: int) -> int:
    return 10 * len(await client.threads.search(values={"total": number + 1}, limit=10))


async def _count(client: LangGraphClient, number: int) -> int:
    found = await client.threads.count(metadata={"tenant": f"tenant-{number}"})
    return 10 * found // (THREADS // TENANTS)


SEARCHES: dict[str, Ask] = {
    "the newest ten": _newest,
    "ten from the middle of all": _deep,
    "ten of a tenant's hundred, by metadata": _tenant,
    "the one with a key, by metadata": _ticket,
    "ten that wait for a human, by status": _waiting,
    "the one with a value, by state": _values,
    "how many a tenant has": _count,
}
"""Each must find ten, or what counts as ten."""


async def measure_search(services: Services, folder: Path, note: Callable[[str], None]) -> list[Search]:
    """Fill a database with threads and search it over the API, one request at a time.

    Raises:
        RuntimeError: A search does not find what is there.
    """
    database_uri = services.make_database("bench_search")
    place = place_for("search", folder, database_uri, services.valkey_uri, folder)
    with running_server("search", place, holdfast(place)):
        with psycopg.connect(database_uri, autocommit=True) as connection:
            connection.execute(_FILL, {"threads": THREADS, "tenants": TENANTS})
            # As autovacuum does within minutes.
            connection.execute("VACUUM ANALYZE thread")
        note(f"search: {THREADS} threads are in")
        async with httpx.AsyncClient(base_url=place.url, timeout=60) as http:
            client = LangGraphClient(http)
            return [await _search(client, name, ask) for name, ask in SEARCHES.items()]


async def _search(client: LangGraphClient, name: str, ask: Ask) -> Search:
    seconds = []
    for number in range(REPETITIONS):
        began = time.perf_counter()
        found = await ask(client, number)
        seconds.append(time.perf_counter() - began)
        if found != 10:
            raise RuntimeError(f"search for {name}: found {found} instead of 10")
    # The first pays for connections and plans.
    with contextlib.suppress(IndexError):
        seconds.pop(0)
    return Search(name, THREADS, quantile(seconds, 0.5) or 0.0, quantile(seconds, 0.95) or 0.0)
