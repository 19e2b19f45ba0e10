"""Real servers for the contract tests: each engine once, with the small graphs of `graphs/`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from sdk_client import Client, RetryPolicy
from tests.contract.api import Sdk
from tests.contract.callback_rig import Receiver, running_receiver
from tests.contract.differences import DIFFERENCES
from tests.contract.engines import (
    ENGINES,
    Server,
    Services,
    running_dev_server,
    running_holdfast_server,
)

# Short enough for the tests of crashed claimants, long enough for a slow machine's single request.
POLICY = RetryPolicy(attempts=6, deadline_seconds=10.0, base_delay_seconds=0.05, max_delay_seconds=0.5)
OF_THE_ENGINE = [
    *("test_callbacks.py", "test_capacity.py", "test_eyes.py", "test_logs.py", "test_moving.py"),
    *("test_pgbouncer.py", "test_top.py", "test_two_replicas.py", "test_valkeys.py"),
]
collect_ignore = [] if "holdfast" in ENGINES else OF_THE_ENGINE


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the differences of the table, strictly: one that has gone must leave the table too."""
    for item in items:
        engine = (
            cast("pytest.Function", item).callspec.params.get("engine") if hasattr(item, "callspec") else None
        )
        name = f"{item.path.name}::{getattr(item, 'originalname', item.name)}"
        difference = DIFFERENCES.get(name)
        if difference and difference.engine == engine:
            reason = f"{engine}: {difference.reason}"
            item.add_marker(pytest.mark.xfail(strict=not difference.is_race, reason=reason))


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The engine under test; CONTRACT_ENGINES chooses which (`dev,holdfast`)."""
    return cast("str", request.param)


@contextlib.contextmanager
def _server(
    engine: str,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    manifest: str,
    thread_ttl: str = "",
) -> Iterator[Server]:
    name = manifest.split(".")[-2]
    home: Path = tmp_path_factory.mktemp(f"{engine}-{name}")
    if engine == "dev":
        with running_dev_server(home, manifest) as url:
            yield Server(engine, url, None, home / "server.log")
        return
    services: Services = request.getfixturevalue("services")
    database_uri = services.make_database(name)
    with running_holdfast_server(
        home, services, database_uri, manifest, LANGGRAPH_THREAD_TTL=thread_ttl
    ) as url:
        yield Server(engine, url, database_uri, home / "server.log")


@pytest.fixture(scope="session")
def server(
    engine: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The server of most tests."""
    with _server(engine, request, tmp_path_factory, "langgraph.json") as running:
        yield running


@pytest.fixture(scope="session")
def secured(
    engine: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with custom authentication, routes of its own and CORS."""
    with _server(engine, request, tmp_path_factory, "langgraph.secured.json") as running:
        yield running


@pytest.fixture(scope="session")
def expiring(
    engine: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose threads and items expire, and whose store searches by meaning."""
    # langgraph.json has whole minutes between two sweeps; the variable is the stock server's own.
    ttl = '{"strategy": "delete", "default_ttl": 43200, "sweep_interval_minutes": 0.02}'
    with _server(engine, request, tmp_path_factory, "langgraph.expiring.json", thread_ttl=ttl) as running:
        yield running


@pytest.fixture(scope="session")
def encrypted(
    engine: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with custom encryption."""
    with _server(engine, request, tmp_path_factory, "langgraph.encrypted.json") as running:
        yield running


@pytest.fixture(scope="session")
def server_url(server: Server) -> str:
    """The address of the server."""
    return server.url


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """What takes the callbacks of one test."""
    with running_receiver() as running:
        yield running


@pytest.fixture
async def client(server_url: str) -> AsyncIterator[Client]:
    """Our own client."""
    async with Client(server_url, retry=POLICY) as connected:
        yield connected


@pytest.fixture
async def http(server_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Plain HTTP, for what the SDK has no call for."""
    async with plain_http(server_url) as connected:
        yield connected


@pytest.fixture
def sdk(http: httpx.AsyncClient) -> Sdk:
    """The stock SDK."""
    return LangGraphClient(http)


def plain_http(url: str, user: str | None = None) -> httpx.AsyncClient:
    """An HTTP client that retries nothing, as a user of the locked server if one is named."""
    return httpx.AsyncClient(
        base_url=url,
        transport=httpx.AsyncHTTPTransport(retries=0),
        timeout=60,
        headers={"authorization": f"Bearer {user}"} if user else {},
    )
