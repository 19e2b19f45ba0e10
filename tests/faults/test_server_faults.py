"""Faults of the servers: killed, told to end, and with clocks that differ."""

from __future__ import annotations

import asyncio
import sys

from tests.faults.rig.scenario import scenario
from tests.faults.rig.setup import Setup
from tests.faults.rig.stand import Stand


@scenario("Server", "kill -9 of the only one, started again at once", durability=("sync", "async"))
async def test_the_only_server_is_killed(stand: Stand) -> None:
    (server,) = stand.servers
    async with stand.fault():
        await stand.kill(server)
        await server.start()
    await stand.check()


@scenario("Server", "kill -9 of one of two", Setup(servers=2), quick=True)
async def test_one_of_two_servers_is_killed(stand: Stand) -> None:
    async with stand.fault():
        await stand.kill(stand.servers[0])
    await stand.check()


@scenario("Server", "the only one stopped, started again after 40 s", durability=("async",))
async def test_the_only_server_is_away(stand: Stand) -> None:
    (server,) = stand.servers
    async with stand.fault():
        await server.terminate()
        one, client = stand.load.handles[-1], stand.client
        calls = asyncio.gather(
            client.submit("steps", {}),
            client.submit("steps", {}, request_id="in-the-outage"),
            client.threads.inspect(one.thread_id),
            client.approvals.list_waiting(),
            client.cancel(stand.load.handles[0]),
        )
        await asyncio.sleep(40.0)
        await server.start()
        await calls  # at their default settings, each kind of call outlasts it
    await stand.check()
    assert not stand.outcome.clients_told, "a join or a stream did not outlast it"


@scenario("Server", "SIGTERM of one of two", Setup(servers=2))
async def test_one_of_two_servers_is_told_to_end(stand: Stand) -> None:
    async with stand.fault():
        await stand.servers[0].terminate()
    await stand.check()


@scenario("Server", "SIGTERM, then a new one, for each of two", Setup(servers=2), quick=True)
async def test_a_rolling_restart(stand: Stand) -> None:
    async with stand.fault():
        for server in stand.servers:
            await server.terminate()
            await server.start()
            await server.wait_until_ready()
    await stand.check()


if sys.platform == "linux":  # where a process can be given another clock

    @scenario(
        "Server",
        "clocks 5 min ahead and 5 min behind, kill -9 of the one behind",
        Setup(servers=2, clocks_off_by_seconds=(300, -300)),
    )
    async def test_clocks_that_differ(stand: Stand) -> None:
        async with stand.fault():
            await stand.kill(stand.servers[1])
        await stand.check()
