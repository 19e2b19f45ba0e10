"""The script that measures what a run costs writes what `holdfast capacity` takes, and what can be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from langgraph_runtime_holdfast.capacity.answer import answer
from langgraph_runtime_holdfast.capacity.measured import read_measured
from langgraph_runtime_holdfast.capacity.plan import Load
from tests.contract.engines import environment
from tests.deploy.rig.machine import PROJECT


def test_what_is_measured_can_be_computed_with(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    # In a folder of its own, beside which another benchmark may run.
    command = [sys.executable, "-m", "benchmarks.cost", "--output", str(file)]
    done = subprocess.run(
        [*command, "--rounds", "1", "--seconds", "1", "--runs", "5"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(PROJECT)),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    mine = read_measured(file)
    by_kind = {(each.steps, each.kilobytes): each for each in mine.cells}
    small, large = by_kind[2, 1], by_kind[10, 500]
    # What is counted and not timed: as much as there must be, and not ten times that.
    assert 10 * 500_000 < large.kept_bytes < 10 * 10 * 500_000
    assert large.wal_bytes > large.kept_bytes * 0.9
    assert 2 < small.commits < 30
    assert 0.7 < mine.looks_a_run[1] < 2
    assert 2 < mine.looks_a_run[3] < 6
    found = answer(Load(10, 2, keep_days=1), mine)
    assert found.source.command.endswith("--rounds 1 --seconds 1 --runs 5")
    assert found.plan.postgres.cores >= 2
