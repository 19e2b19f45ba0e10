"""What the whole suite has in common: its Postgres and Valkey, and how it is shared out (`make test`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.contract.engines import Services


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares servers: a file, or all contract tests of an engine."""
    for item in items:
        engine = item.callspec.params.get("engine") if hasattr(item, "callspec") else None
        item.add_marker(pytest.mark.xdist_group(str(engine or item.path.name)))


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A Postgres and a Valkey for all who break neither; each server has a database of its own."""
    from tests.contract.engines import running_services

    with running_services(tmp_path_factory.mktemp("services")) as running:
        yield running
