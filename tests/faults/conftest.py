"""The fault suite: `make test` runs its quick scenarios, `make faults` all, which writes docs/faults.md."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.rig.outcome import Outcome
from tests.faults.rig.report import Report
from tests.faults.rig.scenario import MARK
from tests.faults.rig.stand import Stand

RUNS_ALL = os.environ.get("FAULTS") == "all"
REPORT = os.environ.get("FAULTS_REPORT")
"""Where the table goes, if anywhere."""
_report = pytest.StashKey[Report]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known, and the report empty."""
    config.addinivalue_line("markers", f"{MARK}: a scenario of the fault suite")
    config.stash[_report] = Report()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long scenarios out, unless all are wanted or one was asked for by its name."""
    if RUNS_ALL or any("::" in argument for argument in config.args):
        return
    left_out = [
        item for item in items if (mark := item.get_closest_marker(MARK)) and not mark.kwargs["quick"]
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table of what was measured."""
    if REPORT:
        is_part = any(argument.count(".py") for argument in session.config.args) or not RUNS_ALL
        session.config.stash[_report].write(Path(REPORT), keep_others=is_part)


@pytest.fixture
async def stand(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stand]:
    """Real services and servers for one scenario; what it measured goes into the report."""
    mark = request.node.get_closest_marker(MARK)
    assert mark is not None, "a test that takes `stand` is marked with @scenario"
    outcome = Outcome(mark.kwargs["kind"], mark.kwargs["name"], durability=request.param)
    made = Stand(outcome, tmp_path, mark.kwargs["setup"])
    async with made.running():
        yield made
    request.config.stash[_report].add(made.outcome)
    print(made.outcome)
