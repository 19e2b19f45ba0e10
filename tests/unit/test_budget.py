"""The connection budget: what a process takes, whether all of them fit, and what the refusal says."""

from __future__ import annotations

from typing import Any

import pytest

from langgraph_runtime_holdfast import budget
from langgraph_runtime_holdfast.budget import LEAST_OF_MAIN, Offer, ProcessConnections, fit, plan, share_of
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.settings import EngineSettings

STOCK = {"max_connections": 100, "reserved": 3, "own_limit": None, "others": 0, "is_pooled": False}


def offer(**changes: Any) -> Offer:
    return Offer(**{**STOCK, **changes})


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`fit` for a process with so many jobs, and so many servers."""

    def fitted(given: Offer, *, jobs: int, isolated: bool, replicas: int = 1, **values: Any) -> Any:
        values = {"HOLDFAST_REPLICAS": replicas, **values}
        monkeypatch.setattr(budget, "settings", lambda: EngineSettings.model_validate(values))
        monkeypatch.setattr(budget, "_jobs_here", lambda: (jobs, isolated))
        return fit(given)

    return fitted


@pytest.mark.parametrize("jobs", [0, 1, 3, 10, 18, 200])
@pytest.mark.parametrize("isolated", [True, False])
@pytest.mark.parametrize(("bound", "share"), [(None, None), (None, 46), (41, None), (150, 46), (150, None)])
def test_the_pools_of_a_process_are_never_more_than_was_said(
    jobs: int, isolated: bool, bound: int | None, share: int | None
) -> None:
    if isolated and jobs == 200 and (bound or share):
        return  # refused, below
    each = plan(jobs=jobs, isolated=isolated, bound=bound, share=share)
    assert each.main >= LEAST_OF_MAIN
    assert each.loops == (jobs if isolated else min(jobs, 1))
    assert not each.loops or each.each_loop >= (2 if isolated else 4)
    assert bound is None or each.pools <= bound
    assert share is None or each.total <= share
    # A larger bound is used, where there is room for it.
    assert bound is None or share is not None or each.pools == bound


def test_a_bound_that_is_too_small_is_refused_with_the_number_that_would_do() -> None:
    with pytest.raises(EngineError, match="Set it to at least 44"):
        plan(jobs=20, isolated=True, bound=43, share=None)
    assert plan(jobs=20, isolated=True, bound=44, share=None).main == LEAST_OF_MAIN


@pytest.mark.parametrize("isolated", [True, False])
def test_what_can_fit_fits_without_any_setting(fitted: Any, isolated: bool) -> None:
    full = ProcessConnections(20, 10, 2, 1) if isolated else ProcessConnections(20, 1, 20, 1)
    assert fitted(offer(), jobs=10, isolated=isolated) == full
    # Two of them fit a stock Postgres as they are, three become smaller.
    assert fitted(offer(), jobs=10, isolated=isolated, replicas=2) == full
    assert fitted(offer(), jobs=10, isolated=isolated, replicas=3).total <= share_of(offer(), 3)
    assert fitted(offer(max_connections=300), jobs=20, isolated=isolated).total == 61
    assert fitted(offer(), jobs=10, isolated=isolated, HOLDFAST_WORKERS=3).total <= 30


def test_only_what_cannot_fit_is_refused_and_says_why(fitted: Any) -> None:
    assert fitted(offer(), jobs=200, isolated=False).total <= 92
    with pytest.raises(EngineError, match=r"1 x \(4 \+ 200 loops x 2 \+ 1 heartbeat = 405\) are 405"):
        fitted(offer(), jobs=200, isolated=True)
    with pytest.raises(EngineError, match=r"50 x \(4 \+ 4 for jobs .* = 92\. Run fewer servers or jobs"):
        fitted(offer(), jobs=10, isolated=False, replicas=50)


def test_a_limit_of_the_role_counts_and_a_pooler_hides_all_of_it(fitted: Any) -> None:
    assert fitted(offer(own_limit=30), jobs=10, isolated=False).total == 30
    with pytest.raises(EngineError, match="at most 8 for this role or database"):
        fitted(offer(own_limit=8), jobs=10, isolated=False)
    assert fitted(offer(is_pooled=True), jobs=10, isolated=False, replicas=100).total == 41
