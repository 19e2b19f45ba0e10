"""Faults of Valkey, which is only a hint: restarts, times without it, and everything in it lost."""

from __future__ import annotations

import asyncio

from tests.faults.rig.scenario import scenario
from tests.faults.rig.setup import Setup
from tests.faults.rig.stand import Stand
from tests.faults.rig.valkeys import ClusteredValkey, WatchedValkey


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


@scenario("Valkey", "a node of a cluster killed, back after 10 s", Setup(servers=2, valkey=ClusteredValkey))
async def test_a_node_of_a_cluster_is_killed(stand: Stand) -> None:
    valkey = stand.valkey
    assert isinstance(valkey, ClusteredValkey)
    async with stand.fault():
        await valkey.kill_one()
        await asyncio.sleep(10.0)
        await valkey.restart_one()
    await stand.check()


@scenario("Valkey", "failover by Sentinel", Setup(servers=2, valkey=WatchedValkey))
async def test_a_failover_by_sentinel(stand: Stand) -> None:
    valkey = stand.valkey
    assert isinstance(valkey, WatchedValkey)
    async with stand.fault():
        await valkey.fail_over()
    await stand.check()
