"""Locks on the tables of runs, as long as a migration holds them."""

from __future__ import annotations

import asyncio

import httpx

from tests.faults.rig.gauge import BACKENDS_OF_A_SERVER
from tests.faults.rig.locks import lock_runs
from tests.faults.rig.scenario import scenario
from tests.faults.rig.stand import Stand

CREATES = 8
_PATIENCE_SECONDS = 60.0


async def create_raw(http: httpx.AsyncClient, thread_id: str) -> httpx.Response:
    """One create, as a client without retries sends it."""
    return await http.post(f"/threads/{thread_id}/runs", json={"assistant_id": "steps", "input": {}})


@scenario("Postgres", "SHARE lock on the runs for 5 s (CREATE INDEX)", durability=("async",), quick=True)
async def test_a_share_lock(stand: Stand) -> None:
    async with httpx.AsyncClient(base_url=stand.url, timeout=_PATIENCE_SECONDS) as http:
        threads = [(await http.post("/threads", json={})).json()["thread_id"] for _ in range(CREATES)]
        async with stand.fault():
            locked = asyncio.Event()
            lock = asyncio.create_task(lock_runs(stand.postgres, "SHARE", 5.0, locked))
            await asyncio.wait_for(locked.wait(), _PATIENCE_SECONDS)
            answers = await asyncio.gather(*(create_raw(http, thread) for thread in threads))
            await lock
    await stand.check()
    stand.check_that_no_lease_was_lost()
    made = [len((await stand.client.threads.inspect(thread)).runs) for thread in threads]
    for answer, runs in zip(answers, made, strict=True):
        assert runs == 1 if answer.is_success else runs <= 1, answer.text
        assert answer.is_success or (answer.status_code == 503 and "retry-after" in answer.headers), (
            answer.text
        )
    stand.outcome.remark = f"{sum(answer.is_success for answer in answers)} of {CREATES} creates in it well"


@scenario("Postgres", "ACCESS EXCLUSIVE lock on the runs for 28 s", durability=("async",))
async def test_an_exclusive_lock(stand: Stand) -> None:
    async with stand.fault():
        await lock_runs(stand.postgres, "ACCESS EXCLUSIVE", 28.0)
    await stand.check()
    stand.outcome.remark = f"at most {stand.gauge.backends} backends"
    # For longer than a lease nobody can extend one: each worker stops its jobs, and none takes another's.
    stand.check_that_no_run_was_taken()
    assert stand.gauge.backends <= BACKENDS_OF_A_SERVER, "what was given up goes on in Postgres"
