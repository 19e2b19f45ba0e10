"""Faults of the network between the servers and Postgres, made by a proxy."""

from __future__ import annotations

import asyncio
import sys

from tests.faults.rig.scenario import scenario
from tests.faults.rig.setup import Setup
from tests.faults.rig.stand import Stand

CUT_SECONDS = 20.0


@scenario("Network", "every connection reset, for 20 s", Setup(through_proxy=True))
async def test_resets(stand: Stand) -> None:
    async with stand.fault():
        stand.cable.reset()
        await asyncio.sleep(CUT_SECONDS)
        stand.cable.heal()
    await stand.check()


@scenario("Network", "deaf for 20 s (takes everything, forwards nothing)", Setup(through_proxy=True))
async def test_deafness(stand: Stand) -> None:
    async with stand.fault():
        stand.cable.deafen()
        await asyncio.sleep(CUT_SECONDS)
        stand.cable.heal()
    await stand.check()


if sys.platform == "linux":  # elsewhere no program can have its packets dropped without being root

    @scenario("Network", "half-open: packets of open connections dropped", Setup(through_proxy=True))
    async def test_half_open_connections(stand: Stand) -> None:
        async with stand.fault():
            stand.cable.drop()
        await stand.check()


@scenario("Network", "hung middlebox: open connections never answered", Setup(through_proxy=True))
async def test_a_hung_middlebox(stand: Stand) -> None:
    async with stand.fault():
        stand.cable.swallow()
    await stand.check()
