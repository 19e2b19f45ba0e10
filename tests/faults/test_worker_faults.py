"""One worker of several that stands still or is cut off, and servers by role without their database."""

from __future__ import annotations

import asyncio
import time

import httpx

from tests.faults.rig.scenario import scenario
from tests.faults.rig.server import Server
from tests.faults.rig.setup import Setup
from tests.faults.rig.stand import Stand

LEASE_SECONDS = 10.0
AWAY_SECONDS = 90.0
_PROBE_SECONDS = 1.0
"""What the official chart's liveness probe waits; it restarts what does not answer for a minute."""
_READY_SECONDS = 3.0
_LONGEST_SILENCE_SECONDS = 30.0


@scenario(
    "Server",
    "one of two stopped for three leases, then continued",
    Setup(servers=2),
    durability=("async", "sync"),
)
async def test_one_of_two_servers_stands_still(stand: Stand) -> None:
    stopped = stand.servers[0]
    async with stand.fault():
        pause = asyncio.create_task(stopped.pause(3 * LEASE_SECONDS))
        await asyncio.sleep(0)
        await stand.time_reclaim(stopped)
        await pause
    await stand.check()


@scenario(
    "Network",
    "one of two servers cut off for three leases",
    Setup(servers=2, through_proxy=True),
    durability=("async",),
)
async def test_one_of_two_servers_is_cut_off(stand: Stand) -> None:
    async with stand.fault():
        stand.cables[0].deafen()
        await stand.time_reclaim(stand.servers[0])
        await asyncio.sleep(3 * LEASE_SECONDS)
        stand.cables[0].heal()
    await stand.check()


@scenario(
    "Postgres",
    "away for 90 s, API and queue apart, a queue killed and started meanwhile",
    Setup(roles=("api", "queue", "queue")),
    durability=("async",),
    timeout_seconds=420,
)
async def test_roles_apart_without_postgres(stand: Stand) -> None:
    api, queue, restarted = stand.servers
    async with stand.fault(), httpx.AsyncClient() as http:
        await stand.postgres.crash()
        since = time.monotonic()
        await restarted.kill()
        await restarted.start()
        silences = await asyncio.gather(
            *(longest_silence(http, server, since + AWAY_SECONDS) for server in (api, queue))
        )
        checked = [
            await answer_of(http, f"{server.url}/ok?check_db=1", _READY_SECONDS) for server in (api, queue)
        ]
        await stand.postgres.start()
    await stand.check(patience_seconds=150.0)
    stand.outcome.remark = f"/ok silent for at most {max(silences):.1f} s"
    assert max(silences) < _LONGEST_SILENCE_SECONDS, "a liveness probe would have restarted it"
    assert checked == [503, 503], "readiness without the database"
    await restarted.wait_until_ready()


async def longest_silence(http: httpx.AsyncClient, server: Server, until: float) -> float:
    """Ask a server for its health once a second, as a liveness probe does, and time its longest silence."""
    longest, well_at = 0.0, time.monotonic()
    while time.monotonic() < until:
        began = time.monotonic()
        if await answer_of(http, f"{server.url}/ok", _PROBE_SECONDS) == 200:
            well_at = time.monotonic()
        longest = max(longest, time.monotonic() - well_at)
        await asyncio.sleep(max(0.0, began + _PROBE_SECONDS - time.monotonic()))
    return longest


async def answer_of(http: httpx.AsyncClient, url: str, seconds: float) -> int | None:
    """The status of an answer, None if there was none in time."""
    try:
        return (await http.get(url, timeout=seconds)).status_code
    except httpx.HTTPError:
        return None
