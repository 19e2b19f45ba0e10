"""A Postgres that changes under the servers: a standby takes over, or it takes no writes for a while."""

from __future__ import annotations

import asyncio

from tests.faults.rig.scenario import scenario
from tests.faults.rig.setup import Setup
from tests.faults.rig.stand import Stand


@scenario(
    "Postgres",
    "primary killed, synchronous standby promoted",
    Setup(standby="synchronous"),
    durability=("async",),
)
async def test_a_synchronous_standby_is_promoted(stand: Stand) -> None:
    async with stand.fault():
        await stand.fail_over()
    await stand.check()


@scenario(
    "Postgres",
    "primary killed, asynchronous standby promoted",
    Setup(standby="asynchronous"),
    durability=("async",),
)
async def test_an_asynchronous_standby_is_promoted(stand: Stand) -> None:
    async with stand.fault():
        await stand.fail_over()
    await stand.check()
    stand.outcome.remark = "what the standby had not got when the primary died is gone"


@scenario("Postgres", "read-only for 20 s", durability=("async",))
async def test_a_read_only_database(stand: Stand) -> None:
    async with stand.fault():
        await stand.postgres.set(default_transaction_read_only="on")
        await asyncio.sleep(20.0)
        await stand.postgres.set(default_transaction_read_only="off")
    await stand.check()
