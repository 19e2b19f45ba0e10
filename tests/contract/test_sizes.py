"""Large values through a real server: they go through whole, and beyond the bound the error names it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.contract.api import Sdk, until
from tests.contract.callback_rig import (
    OutboxServer,
    Receiver,
    running_outbox_server,
)
from tests.contract.conftest import plain_http
from tests.contract.engines import Services

pytestmark = pytest.mark.parametrize("engine", ["holdfast"], indirect=True)

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def large(
    engine: str, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OutboxServer]:
    """A server that takes up to 3 MB of anything, and keeps 4 MB of events."""
    with running_outbox_server(
        tmp_path_factory.mktemp("large"),
        services,
        services.make_database("large"),
        HTTP_MAX_REQUEST_BODY_BYTES="50000000",
        HOLDFAST_LARGEST_MB="3",
        HOLDFAST_FEED_MB="4",
        # A statement's limit must not be what a slow machine fails by.
        HOLDFAST_LEASE_SECONDS="60",
        BG_JOB_TIMEOUT_SECS="60",
    ) as running:
        yield running


@pytest.fixture
async def http(large: OutboxServer) -> AsyncIterator[httpx.AsyncClient]:
    """Plain HTTP on that server."""
    async with plain_http(large.url) as connected:
        yield connected


@pytest.fixture
def sdk(http: httpx.AsyncClient) -> Sdk:
    """The stock SDK on that server."""
    return LangGraphClient(http)


async def test_a_large_state_goes_through_whole(
    sdk: Sdk, http: httpx.AsyncClient, receiver: Receiver, large: OutboxServer
) -> None:
    """Run, callback, stream, state, history and deletion."""
    thread_id = (await sdk.threads.create())["thread_id"]
    values: Any = await sdk.runs.wait(
        thread_id, "grows", input={"megabytes": 1.2}, webhook=receiver.url("large"), durability="async"
    )
    assert values["left"] == values["right"]
    assert len(values["left"]) == 1.2 * MEGABYTE

    async def came() -> bool:
        return bool(receiver.came["large"])

    await until(came, "the callback")
    [delivery] = receiver.came["large"]
    assert (delivery.json["status"], delivery.json["values"]) == ("success", values)
    assert (await sdk.threads.get_state(thread_id))["values"] == values
    streamed = [
        part.data
        async for part in sdk.runs.stream(thread_id, "grows", input={}, stream_mode=["values"])
        if part.event == "values"
    ]
    assert streamed
    assert all(each == values for each in streamed)
    history = (await http.post(f"/threads/{thread_id}/history", json={"limit": 4})).json()
    assert [state["values"] == values for state in history] == [True, True, True, True]
    assert (await http.delete(f"/threads/{thread_id}")).status_code == 204


async def test_what_is_too_large_is_refused_by_name(
    sdk: Sdk, http: httpx.AsyncClient, receiver: Receiver
) -> None:
    """A create, an update, a run's end, and an answer: the size, the setting, and what to do."""
    thread_id = (await sdk.threads.create(graph_id="grows"))["thread_id"]
    too_large = {"left": "x" * (4 * MEGABYTE)}
    daily = {"assistant_id": "grows", "schedule": "0 5 * * *"}
    cron: Any = await sdk.crons.create(**daily, input={})
    for path, body in (
        ("/runs/crons", {**daily, "input": too_large}),
        ("/store/items", {"namespace": ["large"], "key": "k", "value": too_large}),
        (f"/threads/{thread_id}/runs", {"assistant_id": "grows", "input": too_large}),
        (f"/threads/{thread_id}/state", {"values": too_large}),
    ):
        answer = await http.request("PUT" if "store" in path else "POST", path, json=body)
        assert answer.status_code == 413
        assert "4.0 MB" in answer.text
        assert "HOLDFAST_LARGEST_MB=3" in answer.text
    assert await sdk.runs.list(thread_id) == []
    changed = await http.patch(f"/runs/crons/{cron['cron_id']}", json={"input": too_large})
    assert changed.status_code == 413
    await sdk.crons.delete(cron["cron_id"])

    # Each of two channels is small enough, both together are not.
    run = await sdk.runs.create(
        thread_id, "grows", input={"megabytes": 2}, webhook=receiver.url("refused"), durability="sync"
    )
    joined: Any = await sdk.runs.join(thread_id, run["run_id"])
    run = await sdk.runs.get(thread_id, run["run_id"])
    thread: Any = await sdk.threads.get(thread_id)
    assert (run["status"], thread["status"]) == ("error", "error")

    async def came() -> bool:
        return bool(receiver.came["refused"])

    await until(came, "the callback")
    [delivery] = receiver.came["refused"]
    for told in (json.dumps(joined), json.dumps(thread["error"]), json.dumps(delivery.json["error"])):
        assert "4.0 MB" in told
        assert "HOLDFAST_LARGEST_MB=3" in told

    # One channel alone is too large: the run ends in the same way.
    thread_id = (await sdk.threads.create())["thread_id"]
    run = await sdk.runs.create(thread_id, "grows", input={"megabytes": 4}, durability="async")
    joined = await sdk.runs.join(thread_id, run["run_id"])
    assert "the channel 'left'" in json.dumps(joined)
    assert (await sdk.runs.get(thread_id, run["run_id"]))["status"] == "error"

    # States that are each small enough, and together are not.
    for _ in range(3):
        await sdk.runs.wait(thread_id, "grows", input={"megabytes": 1.2}, durability="sync")
    history = await http.post(f"/threads/{thread_id}/history", json={"limit": 20})
    assert history.status_code == 413
    assert "HOLDFAST_LARGEST_MB=3" in history.text
    assert "`limit`" in history.text


async def test_metadata_that_is_too_large_is_refused_by_name(http: httpx.AsyncClient) -> None:
    """It is copied into each run, and an index has all of it."""
    too_large = {"left": "x" * (4 * MEGABYTE)}
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    for method, path, body in (
        ("POST", "/threads", {"metadata": too_large}),
        ("PATCH", f"/threads/{thread_id}", {"metadata": too_large}),
        ("POST", "/assistants", {"graph_id": "grows", "metadata": too_large}),
        ("POST", "/assistants", {"graph_id": "grows", "config": {"configurable": too_large}}),
    ):
        answer = await http.request(method, path, json=body)
        assert answer.status_code == 413
        assert "4.0 MB" in answer.text
        assert "HOLDFAST_LARGEST_MB=3" in answer.text
