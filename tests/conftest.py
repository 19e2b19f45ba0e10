"""What the whole suite has in common: how its tests are shared out among processes (`make test`)."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares servers: a file, or all contract tests of an engine."""
    for item in items:
        engine = item.callspec.params.get("engine") if hasattr(item, "callspec") else None
        item.add_marker(pytest.mark.xdist_group(str(engine or item.path.name)))
