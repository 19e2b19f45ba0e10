"""Faults of the servers: killed, told to end, and with clocks that differ."""

from __future__ import annotations

import sys

from tests.faults.rig.scenario import scenario
from tests.faults.rig.stand import Setup, Stand


@scenario("Server", "kill -9 of the only one, started again at once")
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
