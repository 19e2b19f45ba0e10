"""How a scenario is declared: its row in the report, what it has, and whether `make test` runs it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from tests.faults.rig.outcome import Kind
from tests.faults.rig.setup import Durability, Setup
from tests.faults.rig.stand import Stand

MARK = "fault_scenario"
Test = Callable[[Stand], Coroutine[Any, Any, None]]


def scenario(
    kind: Kind,
    name: str,
    setup: Setup | None = None,
    *,
    durability: Sequence[Durability] = ("sync",),
    quick: bool = False,
    timeout_seconds: int = 300,
) -> Callable[[Test], Test]:
    """Mark a test as a scenario of the fault suite; it takes the fixture `stand`.

    Args:
        kind: What breaks.
        name: How, in words; the scenario's row in docs/faults.md.
        setup: What is there, if not one server beside Postgres and Valkey.
        durability: How the runs of its load are saved; it runs once for each.
        quick: Whether `make test` runs it too, not only `make faults`.
        timeout_seconds: When pytest gives it up.
    """
    mark = getattr(pytest.mark, MARK)(kind=kind, name=name, setup=setup or Setup(), quick=quick)

    def marked(test: Test) -> Test:
        timed: Test = pytest.mark.timeout(timeout_seconds)(test)
        each: Test = pytest.mark.parametrize("stand", durability, indirect=True)(timed)
        both: Test = mark(each)
        return both

    return marked
