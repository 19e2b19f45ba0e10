"""Ten thousand runs in a row: what the server and the database keep of them does not grow."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx

from tests.faults.rig.load import NODES
from tests.faults.rig.scenario import scenario
from tests.faults.rig.stand import Stand

RUNS = 10_000
AT_ONCE = 20
SAMPLES = 20
# From when on nothing may grow: caches are warm, pools are open, the tables have their free space.
WARM = SAMPLES // 4
GROWTH = 1.25
_COUNTED = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()),
       (SELECT sum(pg_total_relation_size(relid)) / 1e6 FROM pg_stat_user_tables),
       (SELECT sum(n_dead_tup) FROM pg_stat_user_tables)
"""


@dataclass(frozen=True)
class Sample:
    """What is in use at one moment."""

    memory_mb: float
    connections: int
    tables_mb: float
    dead_rows: int

    def __str__(self) -> str:
        """For the report."""
        return (
            f"{self.memory_mb:.0f} MB of memory, {self.connections} connections,"
            f" {self.tables_mb:.0f} MB of tables with {self.dead_rows} dead rows"
        )


async def sample(stand: Stand) -> Sample:
    ((connections, tables_mb, dead_rows),) = await stand.postgres.ask(_COUNTED)
    memory = stand.servers[0].process.memory_info().rss
    return Sample(memory / 1e6, int(connections), float(tables_mb), int(dead_rows))


@scenario("Server", f"{RUNS:,} runs in a row", timeout_seconds=3600)
async def test_a_long_soak(stand: Stand) -> None:
    wrong: list[Any] = []
    # Ten thousand runs come within two minutes here, and Postgres tidies up once a minute: now it does so as
    # often, in proportion, as it would if they took an hour.
    await stand.postgres.ask("ALTER SYSTEM SET autovacuum_naptime = '2s'")
    await stand.postgres.ask("SELECT pg_reload_conf()")
    samples = [await sample(stand)]
    numbers = iter(range(RUNS))
    async with httpx.AsyncClient(base_url=stand.url, timeout=60.0) as http:

        async def one(number: int) -> None:
            body = {"assistant_id": "steps", "input": {"node_seconds": 0.0}}
            if number % 2:
                answer = await http.post("/runs/wait", json=body)
            else:
                thread = (await http.post("/threads", json={})).raise_for_status().json()["thread_id"]
                answer = await http.post(f"/threads/{thread}/runs/wait", json=body)
                (await http.delete(f"/threads/{thread}")).raise_for_status()
            if answer.raise_for_status().json().get("visited") != list(NODES):
                wrong.append(answer.json())

        async def client() -> None:
            for number in numbers:
                await one(number)
                if number % (RUNS // SAMPLES) == 0:
                    samples.append(await sample(stand))

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    samples.append(await sample(stand))
    stand.outcome.succeeded, stand.outcome.errored = RUNS - len(wrong), len(wrong)
    stand.outcome.remark = f"at {WARM / SAMPLES:.0%}: {samples[WARM]}; at the end: {samples[-1]}"
    assert not wrong, wrong[:5]
    for name in ("memory_mb", "connections", "tables_mb"):
        warm, end = getattr(samples[WARM], name), getattr(samples[-1], name)
        assert end <= warm * GROWTH, f"{name} grew: {[round(getattr(each, name)) for each in samples]}"
