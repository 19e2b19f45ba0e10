"""What the whole suite has in common: its Postgres and Valkey, and how it is shared out (`make test`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.engines import Services

SERVERS = {"server", "secured", "expiring", "encrypted"}
"""Fixtures of the contract tests, of the whole session, for each engine."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares servers: a file, or all contract tests of one server of an engine."""
    for item in items:
        engine = item.callspec.params.get("engine") if hasattr(item, "callspec") else None
        shared = sorted(SERVERS.intersection(getattr(item, "fixturenames", ())))
        group = "-".join([str(engine), *shared]) if engine and shared else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A Postgres and a Valkey for all who break neither; each server has a database of its own."""
    from tests.contract.engines import running_services

    with running_services(tmp_path_factory.mktemp("services")) as running:
        yield running


class JavaScript:
    """The scripts that drive a server with the stock JavaScript SDK."""

    def __init__(self, folder: Path) -> None:
        """Where they are, with what they need."""
        self._folder = folder

    def run(self, script: str, *arguments: str, **environment: str) -> Any:
        """Run one to its end and return what it printed as JSON."""
        ended = subprocess.run(
            ["node", script, *arguments],
            cwd=self._folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> JavaScript:
    """The scripts, with the SDK installed from npm."""
    if shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have Node: without it nobody checks that frontends work")
        pytest.skip("Node is not installed; this test alone needs it")
    scripts, folder = Path(__file__).parent / "e2e" / "js", tmp_path_factory.mktemp("npm") / "js"
    shutil.copytree(scripts, folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, check=True)
    return JavaScript(folder)
