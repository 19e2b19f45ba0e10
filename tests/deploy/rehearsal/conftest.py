"""A rehearsal takes minutes: `make test` leaves it out, `make test-deploy` runs it."""

from __future__ import annotations

import pytest

MARK = "deploy"


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", f"{MARK}: what is delivered, built and run; make test-deploy")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not asked for by its folder."""
    if any("deploy" in argument for argument in config.args):
        return
    left_out = [item for item in items if item.get_closest_marker(MARK)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
