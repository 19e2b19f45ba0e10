"""What Patroni starts has a session of its own and outlives it: the suite's keeper ends it all the same."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from langgraph_runtime_holdfast.local.processes import Part, RunningPart
from tests.faults.rig import keeper
from tests.faults.test_no_orphans import children_of, is_gone, wait_for, wait_until_gone

# Begins a daemon that takes no SIGTERM, stops it, and ends: like a Postgres whose Patroni is gone.
PROGRAM = """
import os, signal, subprocess, sys
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
code = deaf + "print('up', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
os.kill(child.pid, signal.SIGSTOP)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt others'")
@pytest.mark.parametrize("is_killed", [False, True])
def test_the_keeper_ends_a_stopped_daemon(tmp_path: Path, is_killed: bool) -> None:
    """When it is told to, and when the leash that holds it is killed."""
    command = [sys.executable, "-I", keeper.__file__, sys.executable, "-c", PROGRAM]
    running = RunningPart(Part("daemon", command, dict(os.environ), tmp_path, log=tmp_path / "log"))
    try:
        wait_for(lambda: _is_adopted(running.leash_id), "the daemon is the keeper's")
        started = children_of(running.leash_id)
        if is_killed:
            os.kill(running.leash_id, 9)
            wait_until_gone(started)
    finally:
        running.stop()
    assert all(map(is_gone, started))


def _is_adopted(leash_id: int) -> bool:
    keepers = psutil.Process(leash_id).children()
    children = [child for each in keepers for child in each.children()]
    return [child.status() for child in children] == [psutil.STATUS_STOPPED]
