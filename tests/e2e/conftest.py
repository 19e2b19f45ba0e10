"""The whole product, started once for all end-to-end tests, as `make run` starts it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from langgraph_runtime_holdfast.local.settings import LocalSettings
from langgraph_runtime_holdfast.local.stack import LocalStack
from tests.e2e import wheels

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def project() -> Path:
    return PROJECT


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    home = tmp_path_factory.mktemp("holdfast")
    settings = LocalSettings.load(
        PROJECT / "langgraph.json",
        environment={
            **os.environ,
            "HOLDFAST_HOME": str(home),
            "HOLDFAST_PORT": "0",
            "CALLBACKS_PORT": "0",
            "MODEL": "offline",
        },
    )
    with LocalStack(settings) as running:
        yield running


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheels of both packages."""
    return wheels.build(tmp_path_factory.mktemp("wheels"))
