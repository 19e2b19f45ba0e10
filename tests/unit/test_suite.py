"""How the suite is shared out: where a plugin stops doing so, nothing fails, and all becomes slow."""

from __future__ import annotations

import pytest


def test_what_shares_servers_stays_in_one_process(request: pytest.FixtureRequest) -> None:
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("`make test` alone shares the suite out to several processes")
    # pytest-xdist chooses by what stands behind the @.
    assert request.node.nodeid.endswith("@test_suite.py")
