"""Faults of who is called back."""

from __future__ import annotations

from tests.faults.rig.callbacks import Receiver
from tests.faults.rig.scenario import scenario
from tests.faults.rig.stand import Stand

SILENT_RUNS = 20
_ATTEMPTS_SECONDS = 120.0


@scenario("Callbacks", "20 to a target that takes them and never answers", durability=("async",))
async def test_a_silent_target_holds_up_no_other(stand: Stand) -> None:
    # An address of its own, since a target is a host.
    silent = Receiver("127.0.0.2")
    silent.speaks.clear()
    try:
        mute = [await stand.client.submit("steps", {}, webhook=silent.url) for _ in range(SILENT_RUNS)]
        await stand.until(lambda: silent.heard > 0, "it is called back to")
        async with stand.fault():
            stand.over_now()
        await stand.check()
        # The attempts that hang are given up, and all come again.
        silent.speaks.set()
        ids = {handle.run_id for handle in mute}
        await stand.until(lambda: ids <= set(silent.arrived()), "all were called back", _ATTEMPTS_SECONDS)
        stand.outcome.remark = f"and all {SILENT_RUNS} of them once it answered"
    finally:
        silent.close()
