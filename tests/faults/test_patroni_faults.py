"""Postgres under Patroni: its primary is changed in order, lost, or not looked after for a while.

Needs the Debian package etcd-server, and says so. What it means for a deployment: docs/high-availability.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing

from sdk_client import NotFoundError, RunHandle, RunResult
from tests.faults.rig.load import GRAPH, NODES
from tests.faults.rig.patroni import Node
from tests.faults.rig.scenario import scenario
from tests.faults.rig.setup import Setup
from tests.faults.rig.stand import POLL_SECONDS, Stand

TIMEOUT_SECONDS = 600
PATIENCE_SECONDS = 60.0
ACKNOWLEDGED_AND_LOST = 5
_SAME = "SELECT md5(string_agg(run_id::text || status, ',' ORDER BY run_id)) FROM run_shown"
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
# A step that builds on one that is not there has values of nobody's.
_TORN = """
SELECT count(*) FROM checkpoints AS step WHERE parent_checkpoint_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM checkpoints AS before WHERE before.thread_id = step.thread_id
    AND before.checkpoint_ns = step.checkpoint_ns AND before.checkpoint_id = step.parent_checkpoint_id
)
"""


@scenario(
    "Postgres",
    "Patroni, planned switchover",
    Setup(servers=3, patroni="synchronous"),
    durability=("async",),
    timeout_seconds=TIMEOUT_SECONDS,
)
async def test_a_planned_switchover(stand: Stand) -> None:
    async with stand.fault():
        await stand.patroni.switch_over()
    await stand.check()
    await _is_whole(stand)
    stand.outcome.remark = f"taking over took {stand.ended - stand.began:.1f} s"


@scenario(
    "Postgres",
    "Patroni, primary's machine killed, synchronous standby takes over",
    Setup(servers=3, patroni="synchronous"),
    durability=("async",),
    timeout_seconds=TIMEOUT_SECONDS,
)
async def test_the_primary_is_killed(stand: Stand) -> None:
    old = await stand.patroni.until_led()
    async with stand.fault():
        await old.kill()
        await stand.patroni.until_led(by_other_than=old)
    await stand.check()
    await _is_whole(stand)
    await _comes_back(stand, old)
    stand.outcome.remark = (
        f"taking over took {stand.ended - stand.began:.1f} s; the old one was rewound and follows"
    )


@scenario(
    "Postgres",
    "Patroni, primary's machine killed, asynchronous standby takes over",
    Setup(servers=3, patroni="asynchronous"),
    durability=("async",),
    timeout_seconds=TIMEOUT_SECONDS,
)
async def test_the_primary_is_killed_with_what_nobody_else_has(stand: Stand) -> None:
    old = await stand.patroni.until_led()
    (other,) = (node for node in stand.patroni.nodes if node is not old)
    names = [f"acknowledged-and-lost-{number}" for number in range(ACKNOWLEDGED_AND_LOST)]
    async with stand.fault():
        await stand.until(lambda: not stand.load.not_yet_created, "all runs are created")
        await _has(other, stand.load.handles)
        old.cable.deafen()
        cut = time.monotonic()
        gone = await asyncio.gather(
            *(stand.client.submit(GRAPH, {}, request_id=name, webhook=stand.receiver.url) for name in names)
        )
        behind = time.monotonic() - cut
        waiting = [*map(stand.client.join, gone), *(_watch(stand, handle) for handle in gone)]
        waited = asyncio.gather(*waiting, return_exceptions=True)
        await old.kill()
        old.cable.reset()
        await stand.patroni.until_led(by_other_than=old)
    await stand.check()
    await _is_whole(stand)

    # Who waited is told that the run is not there, unless it had ended before; so is who asks later.
    async with asyncio.timeout(PATIENCE_SECONDS):
        for each in await waited:
            assert isinstance(each, NotFoundError) or _is_right(each), each
        said = await asyncio.gather(*map(stand.client.join, gone), return_exceptions=True)
        assert [type(each) for each in said] == [NotFoundError] * ACKNOWLEDGED_AND_LOST, said
        again = await asyncio.gather(*(stand.client.submit(GRAPH, {}, request_id=name) for name in names))
        results = await asyncio.gather(*map(stand.client.join, again))
    assert all(map(_is_right, results))
    await _comes_back(stand, old)
    stand.outcome.remark = (
        f"the standby was {behind:.1f} s behind: {ACKNOWLEDGED_AND_LOST} more runs were acknowledged and are"
        " gone; who asked for them was told, asked again and has them"
    )


@scenario(
    "Postgres",
    "Patroni, the primary's agent stands still until the other node has taken over",
    Setup(servers=3, patroni="synchronous"),
    durability=("async",),
    timeout_seconds=TIMEOUT_SECONDS,
)
async def test_two_primaries(stand: Stand) -> None:
    old = await stand.patroni.until_led()
    async with stand.fault():
        agent = old.agent
        agent.suspend()
        try:
            await stand.patroni.until_led(by_other_than=old)
            assert not await old.is_in_recovery(), "there were never two primaries"
            stand.load.create_more()
            await _waits(old)
        finally:
            agent.resume()
        await stand.patroni.until_followed()
    await stand.check()
    await _is_whole(stand)
    stand.outcome.remark = "what the old one was given meanwhile it acknowledged to nobody"


async def _waits(node: Node) -> None:
    """Wait until a commit there waits for the other node."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while await node.ask(_WAITING) == [(0,)]:
        assert time.monotonic() < deadline, "no server writes there"
        await asyncio.sleep(POLL_SECONDS)


async def _watch(stand: Stand, handle: RunHandle) -> RunResult | None:
    """Follow a run to its end."""
    async with aclosing(stand.client.watch(handle)) as items:
        async for item in items:
            if isinstance(item, RunResult):
                return item
    return None


def _is_right(result: object) -> bool:
    return isinstance(result, RunResult) and result.values.get("visited") == list(NODES)


async def _has(node: Node, handles: Sequence[RunHandle]) -> None:
    """Wait until a node has these runs."""
    wanted = {handle.run_id for handle in handles}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not wanted <= {run_id for (run_id,) in await node.ask("SELECT run_id::text FROM run")}:
        assert time.monotonic() < deadline, "the standby does not follow"
        await asyncio.sleep(POLL_SECONDS)


async def _is_whole(stand: Stand) -> None:
    """No run went on from a step that the new primary does not have."""
    assert await stand.postgres.ask(_TORN) == [(0,)]


async def _comes_back(stand: Stand, old: Node) -> None:
    """Start the lost node again: it gives up what only it had, and follows."""
    await stand.patroni.return_of(old)
    assert old.said("running pg_rewind"), "it was not rewound"
    assert await old.is_in_recovery()
    first, second = [await node.ask(_SAME) for node in stand.patroni.nodes]
    assert first == second
