"""Runs wait for a slot as long as `holdfast capacity` says: a real server with few slots."""

from __future__ import annotations

import asyncio
import random
import statistics
import uuid
from dataclasses import dataclass

import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient

from langgraph_runtime_holdfast.capacity.waiting import Slots
from tests.contract.api import until
from tests.contract.conftest import plain_http
from tests.contract.engines import Services, running_holdfast_server
from tests.unit.queue_simulation import waits

SLOTS = 4
RUNS = 40
LOAD = 0.7
"""The part of the slots that is to be busy; how many runs arrive for that depends on the machine."""
SECONDS_A_RUN = 0.5
FIRST = 3 * SLOTS
"""Runs that come together, by which it is seen what a slot does here."""
WITHIN = 2.5
"""What is measured and what is computed differ by no more than this factor: the sample is small."""
BUSIEST = 0.85
"""Nearer to the edge the model is of a queue that has been there for hours."""
# All in the database's clock but the first checkpoint's, which has the server's, on the same machine.
_TIMES = """
SELECT extract(epoch FROM run.created_at)::float8,
       (SELECT extract(epoch FROM min((checkpoint ->> 'ts')::timestamptz))::float8 FROM checkpoints
        WHERE checkpoints.thread_id = run.thread_id::text),
       extract(epoch FROM run.updated_at)::float8
FROM run WHERE status = 'success' ORDER BY run.created_at, run.run_id
"""


@dataclass(frozen=True)
class Seen:
    """A run, in seconds of the clock."""

    created: float
    began: float
    ended: float


@pytest.fixture(scope="module")
def seen(services: Services, tmp_path_factory: pytest.TempPathFactory) -> list[Seen]:
    """Runs of different lengths that arrive by chance, in the order of their arrival."""
    database_uri = services.make_database("capacity")
    # A queue that found its work by looking now and then would make all wait for a minute.
    home = tmp_path_factory.mktemp("capacity")
    with running_holdfast_server(
        home, services, database_uri, jobs=str(SLOTS), HOLDFAST_POLL_SECONDS="60"
    ) as url:
        asyncio.run(_load(url, database_uri))
    return _seen(database_uri)[FIRST:]


async def _load(url: str, database_uri: str) -> None:
    # A sample of arrivals and lengths that is near the model: so few can be far from it, by a factor of ten.
    chance = random.Random(267)  # noqa: S311 - a load
    loop = asyncio.get_running_loop()
    async with plain_http(url) as http:
        sdk = LangGraphClient(http)

        def create(seconds: float) -> asyncio.Task[object]:
            values = {"step_seconds": seconds / 3}
            thread_id = str(uuid.uuid4())
            return asyncio.create_task(
                sdk.runs.create(thread_id, "slow", input=values, if_not_exists="create")
            )

        await asyncio.gather(*(create(SECONDS_A_RUN) for _ in range(FIRST)))
        await _all_ended(database_uri)
        first = _seen(database_uri)
        took = max(each.ended for each in first) - min(each.began for each in first)
        rate = LOAD * FIRST / took
        created, at = [], loop.time()
        for _ in range(RUNS):
            seconds = chance.expovariate(1 / SECONDS_A_RUN)
            at += chance.expovariate(1) / rate
            await asyncio.sleep(at - loop.time())
            created.append(create(seconds))
        await asyncio.gather(*created)
    await _all_ended(database_uri)


def _seen(database_uri: str) -> list[Seen]:
    with psycopg.connect(database_uri) as connection:
        return [Seen(*row) for row in connection.execute(_TIMES)]


async def _all_ended(database_uri: str) -> None:
    async def all_ended() -> bool:
        async with await psycopg.AsyncConnection.connect(database_uri) as connection:
            row = await (await connection.execute("SELECT count(*) FROM run_inflight")).fetchone()
        return row == (0,)

    await until(all_ended, "all runs have ended", 90)


def turnover(seen: list[Seen]) -> float:
    """What a slot takes from the end of one run to the beginning of the next, in seconds."""
    begun, ends = sorted(seen, key=lambda each: each.began), sorted(each.ended for each in seen)
    gaps = [
        later.began - ends[number]
        for number, later in enumerate(begun[SLOTS:])
        # Those that were there already when the slot became free.
        if later.created < ends[number]
    ]
    assert len(gaps) > RUNS / 10, "hardly a run had to wait: there was nothing to be seen"
    return max(0.0, statistics.median(gaps))


def test_the_slots_serve_as_the_model_takes_it(seen: list[Seen]) -> None:
    assert len(seen) == RUNS
    # All slots are used, and no more.
    moments = sorted([(each.began, 1) for each in seen] + [(each.ended, -1) for each in seen])
    level, levels = 0, []
    for _, change in moments:
        level += change
        levels.append(level)
    assert max(levels) == SLOTS
    # The oldest first, each by the first slot that is free: so do the same runs in the simulation.
    services = [each.ended - each.began + turnover(seen) for each in seen]
    ideal = statistics.fmean(waits([each.created for each in seen], services, SLOTS))
    real = statistics.fmean(each.began - each.created for each in seen)
    assert ideal / 1.5 - 0.05 < real < ideal * 1.5 + turnover(seen) + 0.1


def test_runs_wait_as_long_as_the_model_says(seen: list[Seen]) -> None:
    rate = (len(seen) - 1) / (seen[-1].created - seen[0].created)
    seconds = statistics.fmean(each.ended - each.began for each in seen) + turnover(seen)
    model = Slots(SLOTS, rate, seconds)
    if model.load > BUSIEST:
        pytest.skip(f"this machine was too slow for the load ({model.load:.0%} of the slots were busy)")
    real = statistics.fmean(each.began - each.created for each in seen)
    assert model.mean_wait_seconds / WITHIN < real < model.mean_wait_seconds * WITHIN + turnover(seen) + 0.1
