"""The connection budget: what a process takes, whether all of them fit, and what the refusal says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from langgraph_runtime_holdfast.budget import LEAST_OF_MAIN, Offer, check_fit, divide
from langgraph_runtime_holdfast.errors import EngineError

STOCK = {"max_connections": 100, "reserved": 3, "own_limit": None, "others": 0, "is_pooled": False}


def offer(**changes: Any) -> Offer:
    return Offer(**{**STOCK, **changes})


@pytest.mark.parametrize("jobs", [0, 1, 3, 10, 18])
@pytest.mark.parametrize("isolated", [True, False])
@pytest.mark.parametrize("pool_max", [40, 41, 150])
def test_the_pools_of_a_process_are_never_more_than_was_said(
    pool_max: int, jobs: int, isolated: bool
) -> None:
    each = divide(pool_max, jobs=jobs, isolated=isolated)
    assert each.main + each.loops * each.each_loop == pool_max
    assert each.main >= LEAST_OF_MAIN
    assert each.total == pool_max + (1 if jobs else 0)
    assert each.loops == (jobs if isolated else min(jobs, 1))


def test_too_few_for_so_many_loops_is_refused_with_the_number_that_would_do() -> None:
    with pytest.raises(EngineError, match="Set it to at least 44"):
        divide(43, jobs=20, isolated=True)
    assert divide(44, jobs=20, isolated=True).main == LEAST_OF_MAIN


def test_two_servers_of_the_default_size_fit_a_stock_postgres_and_three_do_not() -> None:
    each = divide(40, jobs=10, isolated=True)
    check_fit(each, 2, offer())
    with pytest.raises(EngineError, match=r"are 123, and it gives .* = 92") as told:
        check_fit(each, 3, offer())
    fitting = int(re.findall(r"POOL_MAX_SIZE to (\d+)", str(told.value))[0])
    check_fit(divide(fitting, jobs=10, isolated=True), 3, offer())
    with pytest.raises(EngineError):
        check_fit(divide(fitting + 1, jobs=10, isolated=True), 3, offer())


def test_a_limit_of_the_role_counts_and_a_pooler_hides_all_of_it() -> None:
    each = divide(40, jobs=10, isolated=True)
    with pytest.raises(EngineError, match="at most 30 for this role or database"):
        check_fit(each, 1, offer(own_limit=30))
    check_fit(each, 100, offer(is_pooled=True))


def test_no_pool_size_is_offered_that_would_be_refused_as_too_small() -> None:
    with pytest.raises(EngineError) as told:
        check_fit(divide(40, jobs=10, isolated=True), 50, offer())
    assert "POOL_MAX_SIZE" not in str(told.value)
    assert "Run fewer servers" in str(told.value)
