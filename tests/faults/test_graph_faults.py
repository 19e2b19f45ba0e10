"""Faults that a graph brings: a node that blocks its loop, and one that kills its worker each time."""

from __future__ import annotations

import asyncio
import time

import pytest

from sdk_client import RunFailedError
from tests.faults.rig.scenario import scenario
from tests.faults.rig.setup import Setup
from tests.faults.rig.stand import Stand

BLOCKED_SECONDS = 30.0


@scenario("Graph", "a node in time.sleep(30), two servers", Setup(servers=2))
async def test_a_blocked_loop_holds_up_what_was_on_it_and_no_other_process(stand: Stand) -> None:
    async with stand.fault():
        given = {"node_seconds": BLOCKED_SECONDS}
        blocked = await stand.client.submit("blocking", given, webhook=stand.receiver.url)
        await stand.until(lambda: stand.journal.began("blocks") == 1, "a loop is blocked")
        began = time.monotonic()
        late = [await stand.client.submit("steps", {}, webhook=stand.receiver.url) for _ in range(10)]
        await asyncio.gather(*(stand.client.join(handle) for handle in late))
        late_seconds = time.monotonic() - began
        result = await stand.client.join(blocked, deadline_seconds=2 * BLOCKED_SECONDS)
    await stand.check()
    probe = stand.probe
    stand.outcome.remark = (
        f"slowest answer of the API {probe.slowest_answer(stand.began):.2f} s, "
        f"{len(probe.unanswered(stand.began))} too late; "
        f"ten runs created after it were done within {late_seconds:.0f} s"
    )
    assert result.values["visited"] == ["blocks", "waits"]
    await _check_nothing_was_tried_again(stand)


@scenario("Graph", "three nodes in time.sleep(30), on loops of their own", Setup(isolated_loops=True))
async def test_blocked_loops_of_their_own_hold_up_nobody_else(stand: Stand) -> None:
    given = {"node_seconds": BLOCKED_SECONDS}
    blocked = [await stand.client.submit("blocking", given, webhook=stand.receiver.url) for _ in range(3)]
    await stand.until(lambda: stand.journal.began("blocks") == 3, "the loops are blocked")
    async with stand.fault():
        stand.over_now()  # it was there before, and stays until the last of these runs ends
    await stand.check()
    probe = stand.probe
    stand.outcome.remark = f"slowest answer of the API {probe.slowest_answer(stand.began):.2f} s"
    assert not probe.unanswered(stand.began)
    for handle in blocked:
        result = await stand.client.join(handle, deadline_seconds=2 * BLOCKED_SECONDS)
        assert result.values["visited"] == ["blocks", "waits"]
    assert stand.journal.began("blocks") == 3
    await _check_nothing_was_tried_again(stand)


async def _check_nothing_was_tried_again(stand: Stand) -> None:
    ((attempts,),) = await stand.postgres.ask("SELECT max(attempt) FROM run_shown")
    assert attempts == 1, "a heartbeat was missed"


@scenario("Graph", "a run that kills its worker each time, two servers, each started again", Setup(servers=2))
async def test_a_poison_run_stops(stand: Stand) -> None:
    supervisor = asyncio.create_task(stand.keep_servers_running())
    try:
        async with stand.fault():
            poison = await stand.client.submit("poison", {}, webhook=stand.receiver.url)
            with pytest.raises(RunFailedError) as failed:
                await stand.client.join(poison, deadline_seconds=240.0)
        await stand.check()
    finally:
        supervisor.cancel()
        await asyncio.gather(supervisor, return_exceptions=True)
    kills = stand.journal.began("kills_its_worker")
    stand.outcome.remark = f"stopped after {kills} attempts"
    assert "died" in (failed.value.error_message or ""), failed.value
    await stand.until(lambda: stand.receiver.arrived()[poison.run_id] == 1, "its callback")
