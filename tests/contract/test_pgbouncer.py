"""The engine behind PgBouncer in transaction mode: two servers, an empty database, five connections to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.contract.api import Sdk, statuses, thread_after, until, until_status, values_of
from tests.contract.conftest import plain_http
from tests.contract.engines import Services, running_holdfast_server
from tests.contract.pgbouncer import running_pgbouncer

pytestmark = pytest.mark.parametrize("engine", ["holdfast"], indirect=True)

DATABASE = "bounced"
SERVER_CONNECTIONS = 5
RUNS = 50


@pytest.fixture(scope="module")
def bouncer(engine: str, services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty database, through PgBouncer."""
    services.make_database(DATABASE)
    folder = tmp_path_factory.mktemp("pgbouncer")
    with running_pgbouncer(folder, services.postgres_uri, pool_size=SERVER_CONNECTIONS) as address:
        yield f"{address}/{DATABASE}"


@pytest.fixture(scope="module")
def homes(
    bouncer: str, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[tuple[str, Path]]]:
    """The addresses and folders of two servers that began at the same moment."""
    folders = [tmp_path_factory.mktemp(f"bounced-{name}") for name in "ab"]

    with ExitStack() as running, ThreadPoolExecutor(2) as threads:
        servers = [running_holdfast_server(folder, services, bouncer) for folder in folders]
        urls = threads.map(running.enter_context, servers)
        yield list(zip(urls, folders, strict=True))


@pytest.fixture
async def sdks(homes: list[tuple[str, Path]]) -> AsyncIterator[tuple[Sdk, Sdk]]:
    """The two servers, each by the stock SDK."""
    async with plain_http(homes[0][0]) as first, plain_http(homes[1][0]) as second:
        yield LangGraphClient(first), LangGraphClient(second)


async def test_runs_at_once_through_both(sdks: tuple[Sdk, Sdk]) -> None:
    async def one(number: int) -> Any:
        return await sdks[number % 2].runs.wait(None, "echo", input={"text": str(number)})

    results = await asyncio.gather(*(one(number) for number in range(RUNS)))
    assert results == [{"text": str(number), "heard": [str(number)]} for number in range(RUNS)]


async def test_every_main_path(sdks: tuple[Sdk, Sdk]) -> None:
    here, there = sdks
    streamed = here.runs.stream(None, "ticker", input={"ticks": 5}, stream_mode="custom")
    assert len([part async for part in streamed if part.event == "custom"]) == 5

    thread_id = await thread_after(here, "inbox", {"text": "letter"})
    ((pause,),) = (await there.threads.get(thread_id))["interrupts"].values()
    answer = {pause["id"]: [{"type": "accept", "args": None}]}
    await there.runs.wait(thread_id, "inbox", command={"resume": answer})
    assert (await values_of(here, thread_id))["sent"] == ["letter"]
    assert len(await here.threads.get_history(thread_id, limit=20)) > 2

    slow = (await here.threads.create())["thread_id"]
    run = await here.runs.create(slow, "slow", input={"step_seconds": 60})
    await until_status(here, slow, run["run_id"], "running")
    await there.runs.cancel(slow, run["run_id"], wait=True)

    await here.store.put_item(["notes"], "k", {"n": 1})
    found = await there.store.search_items(["notes"], filter={"n": 1})
    assert [item["key"] for item in found["items"]] == ["k"]
    await here.store.delete_item(["notes"], "k")

    ticking = (await here.threads.create())["thread_id"]
    cron = await here.crons.create_for_thread(ticking, "echo", schedule="* * * * * *", input={"text": "tick"})

    async def fired() -> bool:
        return "success" in (await statuses(there, ticking)).values()

    await until(fired, "the cron has fired")
    await here.crons.delete(cron["cron_id"])
    copy = await there.threads.copy(thread_id)
    assert (await values_of(here, copy["thread_id"]))["sent"] == ["letter"]
    for each in (thread_id, slow, ticking, copy["thread_id"]):
        await there.threads.delete(each)


async def test_no_setting_is_left_for_whoever_comes_next(sdks: tuple[Sdk, Sdk], bouncer: str) -> None:
    # A run long enough for heartbeats, whose statements have a time limit.
    await sdks[0].runs.wait(None, "slow", input={"step_seconds": 2})
    changed = "SELECT name, setting FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout')"
    seen: set[tuple[Any, ...]] = set()
    with ExitStack() as held:
        # Together they have all of PgBouncer's connections to the server that are free.
        for _ in range(SERVER_CONNECTIONS - 2):
            connection = held.enter_context(psycopg.connect(bouncer, prepare_threshold=None))
            seen |= set(connection.execute(changed).fetchall())
    assert seen == {("statement_timeout", "0"), ("lock_timeout", "0")}


async def test_it_is_told_at_the_start_and_nothing_failed(homes: list[tuple[str, Path]]) -> None:
    for _, folder in homes:
        log = (folder / "server.log").read_text()
        assert "through a pooler, whose own limit counts" in log
        assert not re.search(r"prepared statement|unsupported startup parameter|Traceback", log)
