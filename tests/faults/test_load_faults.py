"""Not a fault at all, but more than usual: slow commits, and large states."""

from __future__ import annotations

from collections import Counter

from tests.faults.rig.scenario import scenario
from tests.faults.rig.setup import LARGE, LARGEST, Setup
from tests.faults.rig.stand import Stand

# Each commit waits so long before it writes, whether others are about to or not.
SLOW_COMMITS = {"commit_delay": "50000", "commit_siblings": "0"}


# Runs of many quick steps, which last for several leases and save all the time.
SAVERS = 6
STEPS = 300
_ENDED_SECONDS = 120.0


@scenario(
    "Load",
    "commits of 50 ms, six runs that save all the time",
    Setup(postgres=SLOW_COMMITS),
    durability=("async", "sync"),
    timeout_seconds=420,
)
async def test_slow_commits(stand: Stand) -> None:
    durability = stand.outcome.durability
    given = {"left": STEPS}
    config = {"recursion_limit": 2 * STEPS}
    savers = [
        await stand.client.submit("saving", given, config=config, durability=durability)
        for _ in range(SAVERS)
    ]
    async with stand.fault():
        stand.over_now()  # it was there before, and stays
    await stand.check()
    for handle in savers:
        result = await stand.client.join(handle, deadline_seconds=_ENDED_SECONDS)
        assert result.values["left"] == 0
    steps = Counter(
        (each.run_id, each.node) for each in stand.journal.notes() if each.node.startswith("saves")
    )
    again = [step for step, times in steps.items() if times > 1]
    ((tries,),) = await stand.postgres.ask("SELECT max(attempt) FROM run_shown")
    stand.outcome.remark = f"{len(again)} of their {SAVERS * STEPS} steps twice"
    assert tries == 1, "a lease of a run that was saving was not extended"
    assert not again
    stand.check_that_no_lease_was_lost()


async def heavy(stand: Stand) -> None:
    """The load alone, and what it takes."""
    async with stand.fault():
        stand.over_now()
    try:
        await stand.check(patience_seconds=180.0)
    finally:
        stand.outcome.remark = f"a server took at most {stand.gauge.memory_mb:.0f} MB of memory"
    stand.check_that_no_lease_was_lost()


@scenario("Load", "states of 10 MB", Setup(shape=LARGE), durability=("async", "sync"), timeout_seconds=420)
async def test_states_of_10_mb(stand: Stand) -> None:
    await heavy(stand)


@scenario("Load", "states of 40 MB", Setup(shape=LARGEST), durability=("async", "sync"), timeout_seconds=420)
async def test_states_of_40_mb(stand: Stand) -> None:
    await heavy(stand)
