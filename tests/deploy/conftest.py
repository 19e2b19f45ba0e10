"""What is delivered, as people run it: `make test-deploy`. Needs Debian packages, and says which."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.engines import Services, running_services
from tests.deploy.rig.base import make_base
from tests.deploy.rig.machine import PROJECT, Machine, check_tools, run

# Layers and the base are kept between runs; `make clean` removes them.
KEPT = PROJECT / ".holdfast" / "containers"
APP, ENGINE = "localhost/holdfast:app", "localhost/holdfast:engine"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them all."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.deploy)


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """Images and containers of these tests alone."""
    check_tools()
    KEPT.mkdir(parents=True, exist_ok=True)
    here = Machine(KEPT)
    here.clear()
    yield here
    here.clear()
    # What builds of earlier days have left behind.
    here.podman("image", "prune", "--force", "--filter", "until=24h", check=False)


@pytest.fixture(scope="session")
def base(machine: Machine) -> str:
    """A Debian with Python, made here."""
    return make_base(machine)


@pytest.fixture(scope="session")
def app_image(machine: Machine, base: str) -> str:
    """The image with the six agents, as `make image` builds it."""
    return _build(machine, base, APP, "app")


@pytest.fixture(scope="session")
def engine_image(machine: Machine, base: str) -> str:
    """The image of the engine and the client alone."""
    return _build(machine, base, ENGINE, "engine")


@pytest.fixture(scope="session")
def own_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A Postgres and a Valkey on this machine's loopback address."""
    with running_services(tmp_path_factory.mktemp("services")) as running:
        yield running


def _build(machine: Machine, base: str, name: str, target: str) -> str:
    build = f"BUILD={' '.join(machine.build_command)}"
    arguments = f"IMAGE_ARGS=--build-arg BASE={base}"
    run(["make", "image", build, f"IMAGE={name}", f"TARGET={target}", arguments], seconds=1500)
    return name
