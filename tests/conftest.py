"""What the whole suite has in common: its Postgres and Valkey, and how it is shared out (`make test`)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
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


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts that drive a server with the stock JavaScript SDK, installed from npm."""
    if shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have Node: without it nobody checks that frontends work")
        pytest.skip("Node is not installed; this test alone needs it")
    scripts, folder = Path(__file__).parent / "e2e" / "js", tmp_path_factory.mktemp("npm") / "js"
    shutil.copytree(scripts, folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, check=True)
    return folder
