"""Faults of Valkey, which is only a hint: restarts, times without it, and everything in it lost."""

from __future__ import annotations

import asyncio

from tests.faults.rig.scenario import scenario
from tests.faults.rig.stand import Stand


@scenario("Valkey", "restart")
async def test_a_restart(stand: Stand) -> None:
    async with stand.fault():
        await stand.valkey.stop()
        await stand.valkey.start()
    await stand.check()


@scenario("Valkey", "away for 20 s")
async def test_twenty_seconds_without_valkey(stand: Stand) -> None:
    async with stand.fault():
        await stand.valkey.stop()
        await asyncio.sleep(20.0)
        await stand.valkey.start()
    await stand.check()


@scenario("Valkey", "FLUSHALL", quick=True)
async def test_everything_in_valkey_is_lost(stand: Stand) -> None:
    async with stand.fault():
        await stand.valkey.flush()
    await stand.check()
