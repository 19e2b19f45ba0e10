"""Faults of Postgres: sessions ended, restarts, and times without it."""

from __future__ import annotations

import asyncio

from tests.faults.rig.crowd import Crowd
from tests.faults.rig.disk import CAN_MOUNT
from tests.faults.rig.scenario import scenario
from tests.faults.rig.setup import Setup
from tests.faults.rig.stand import Stand

_BETWEEN_KILLS_SECONDS = 1.0


@scenario("Postgres", "every backend terminated", quick=True)
async def test_every_backend_is_terminated(stand: Stand) -> None:
    async with stand.fault():
        await stand.postgres.end_all_sessions()
    await stand.check()


@scenario("Postgres", "every backend terminated, five times a second apart")
async def test_every_backend_is_terminated_five_times(stand: Stand) -> None:
    async with stand.fault():
        for _ in range(5):
            await stand.postgres.end_all_sessions()
            await asyncio.sleep(_BETWEEN_KILLS_SECONDS)
    await stand.check()


@scenario("Postgres", "immediate restart", quick=True)
async def test_an_immediate_restart(stand: Stand) -> None:
    async with stand.fault():
        await stand.postgres.crash()
        await stand.postgres.start()
    await stand.check()


@scenario("Postgres", "away for 20 s", durability=("sync", "async"))
async def test_twenty_seconds_without_postgres(stand: Stand) -> None:
    async with stand.fault():
        await stand.postgres.crash()
        await asyncio.sleep(20.0)
        await stand.postgres.start()
    await stand.check()


@scenario("Postgres", "away for 60 s")
async def test_a_minute_without_postgres(stand: Stand) -> None:
    async with stand.fault():
        await stand.postgres.stop()
        await asyncio.sleep(60.0)
        await stand.postgres.start()
    await stand.check(patience_seconds=150.0)


@scenario("Postgres", "no connection free for 15 s")
async def test_too_many_clients(stand: Stand) -> None:
    async with stand.fault():
        async with Crowd(stand.postgres.uri) as crowd:
            await asyncio.sleep(15.0)
        stand.outcome.remark = f"a bystander held {len(crowd.held)}"
    await stand.check()


if CAN_MOUNT:  # a disk that can be filled is a disk of its own

    @scenario("Postgres", "its disk full for 20 s", Setup(small_disk=True))
    async def test_a_full_disk(stand: Stand) -> None:
        async with stand.fault():
            stand.disk.fill()
            await asyncio.sleep(20.0)
            stand.disk.free()
        await stand.check()
