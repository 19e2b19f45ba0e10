"""Callbacks of a real server: told once and signed, through faults of the receiver and of the server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient
from standardwebhooks import Webhook

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart
from tests.contract.api import Sdk, until
from tests.contract.callback_rig import (
    SECRET,
    TOKEN,
    Delivery,
    OutboxServer,
    Receiver,
    running_outbox_server,
)
from tests.contract.conftest import plain_http
from tests.contract.engines import Services, environment

pytestmark = pytest.mark.parametrize("engine", ["holdfast"], indirect=True)

ENDLESS = {"step_seconds": 60}


@pytest.fixture(scope="module")
def outbox(
    engine: str, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OutboxServer]:
    """The server of most tests."""
    with running_outbox_server(
        tmp_path_factory.mktemp("outbox"), services, services.make_database("outbox")
    ) as running:
        yield running


@pytest.fixture
async def sdk(outbox: OutboxServer) -> AsyncIterator[Sdk]:
    """The stock SDK on that server."""
    async with plain_http(outbox.url) as http:
        yield LangGraphClient(http)


async def start(
    sdk: Sdk, graph: str, values: Any, webhook: str, *, stateless: bool = False
) -> tuple[Any, str]:
    """Create a run with a webhook; returns its thread's id and its own."""
    thread_id = None if stateless else (await sdk.threads.create())["thread_id"]
    run = await sdk.runs.create(thread_id, graph, input=values, webhook=webhook)
    return run["thread_id"], run["run_id"]


async def came(receiver: Receiver, name: str, number: int = 1) -> list[Delivery]:
    """Wait until so many deliveries have come."""

    async def enough() -> bool:
        return len(receiver.came[name]) >= number

    await until(enough, f"{number} deliveries of {name}")
    return receiver.came[name]


async def row_once(outbox: OutboxServer, run_id: str, column: str) -> dict[str, Any]:
    """Wait until the row of a run has something in a column."""

    async def has_it() -> Any:
        return [row for row in outbox.rows(run_id) if row[column] is not None]

    (row,) = await until(has_it, f"{column} of {run_id}")
    return dict(row)


async def running(sdk: Sdk, thread_id: str, run_id: str) -> None:
    """Wait until a run is worked on."""

    async def runs() -> bool:
        return bool((await sdk.runs.get(thread_id, run_id))["status"] == "running")

    await until(runs, "the run runs")


async def test_every_end_is_told_once_signed_and_as_the_stock_server_tells_it(
    outbox: OutboxServer, sdk: Sdk, receiver: Receiver
) -> None:
    started = {
        "success": await start(sdk, "echo", {"text": "a"}, receiver.url("success")),
        "error": await start(sdk, "failing", {"reason": "no ink"}, receiver.url("error")),
        "timeout": await start(sdk, "slow", ENDLESS, receiver.url("timeout")),
    }
    for action, name in (("interrupt", "interrupted"), ("rollback", "rollback")):
        thread_id, run_id = started[name] = await start(sdk, "slow", ENDLESS, receiver.url(name))
        await running(sdk, thread_id, run_id)
        await sdk.runs.cancel(thread_id, run_id, action=action)
    for name, (thread_id, run_id) in started.items():
        body = check(await came(receiver, name), name, thread_id, run_id)
        assert body["kwargs"]["webhook"].endswith(name)
        assert ("error" in body) == (name != "success")
    assert receiver.came["success"][0].json["values"]["heard"] == ["a"]
    assert receiver.came["error"][0].json["error"] == {"error": "ValueError", "message": "no ink"}
    assert receiver.came["rollback"][0].json["values"] is None
    row = await row_once(outbox, started["success"][1], "delivered_at")
    assert (row["attempts"], row["last_status"], row["body"]) == (1, 200, None)


async def test_ends_of_stateless_runs_are_told_too(
    outbox: OutboxServer, sdk: Sdk, receiver: Receiver
) -> None:
    for name, graph, values in (
        ("success", "echo", {"text": "a"}),
        ("error", "failing", {"reason": "no ink"}),
        ("timeout", "slow", ENDLESS),
    ):
        thread_id, run_id = await start(sdk, graph, values, receiver.url(name), stateless=True)
        body = check(await came(receiver, name), name, thread_id, run_id)
        assert body["values"] is None
    assert "no ink" in str(receiver.came["error"][0].json["error"])


def check(deliveries: list[Delivery], status: str, thread_id: str, run_id: str) -> dict[str, Any]:
    """There is one delivery, signed, about this run; returns its body."""
    (delivery,) = deliveries
    body: dict[str, Any] = Webhook(SECRET).verify(delivery.body, delivery.headers)
    assert delivery.headers["authorization"] == f"Bearer {TOKEN}"
    assert delivery.headers["content-type"] == "application/json"
    assert (body["thread_id"], body["run_id"], body["status"]) == (thread_id, run_id, status)
    assert set(body) - {"error", "langsmith_session_name"} == {
        *("run_id", "thread_id", "assistant_id", "created_at", "updated_at", "status", "metadata", "kwargs"),
        *("multitask_strategy", "run_started_at", "run_ended_at", "webhook_sent_at", "values"),
    }
    assert body["created_at"] <= body["run_started_at"] <= body["run_ended_at"] <= body["webhook_sent_at"]
    return body


async def test_what_fails_is_tried_again_under_the_same_id_when_it_is_wanted(
    outbox: OutboxServer, sdk: Sdk, receiver: Receiver
) -> None:
    receiver.answers["hiccup"] = [(500, {}), (404, {})]
    receiver.answers["later"] = [(503, {"retry-after": "4"})]
    receiver.answers["silent"] = [(0, {})]
    receiver.answers["moved"] = [(307, {"location": "/new"})]
    receiver.answers["lost"] = [(302, {"location": "/elsewhere"})]
    for name in ("hiccup", "later", "silent", "moved", "lost"):
        await start(sdk, "echo", {"text": name}, receiver.url(name))
    first, second, third = await came(receiver, "hiccup", 3)
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == third.headers["webhook-id"]
    # At least so long; at most, only on a machine that does nothing else.
    assert 0.7 < second.at - first.at < 30
    assert 1.4 < third.at - second.at < 30
    early, late = await came(receiver, "later", 2)
    assert late.at - early.at >= 4
    assert late.json["webhook_sent_at"] > early.json["webhook_sent_at"]
    for delivery in (*await came(receiver, "silent", 2), *await came(receiver, "lost", 2)):
        Webhook(SECRET).verify(delivery.body, delivery.headers)
    # A redirect that keeps the request is followed; another would lose the body, and is a failure.
    (moved,) = await came(receiver, "new")
    assert moved.json["run_id"] == receiver.came["moved"][0].json["run_id"]
    assert not receiver.came["elsewhere"]


async def test_what_is_given_up_is_listed_and_replayed(
    outbox: OutboxServer, sdk: Sdk, receiver: Receiver
) -> None:
    receiver.answers["gone"] = [(410, {})]
    receiver.answers["inward"] = [(307, {"location": "http://169.254.169.254/latest"})]
    _, gone = await start(sdk, "echo", {"text": "a"}, receiver.url("gone"))
    _, inward = await start(sdk, "echo", {"text": "a"}, receiver.url("inward"))
    assert "wants no more" in (await row_once(outbox, gone, "dead_at"))["dead_reason"]
    assert "refused" in (await row_once(outbox, inward, "dead_at"))["dead_reason"]
    listed = {each["run_id"]: each for each in (await callbacks(outbox, 0, "dead"))["callbacks"]}
    assert {gone, inward} <= set(listed)
    assert (listed[gone]["host"], listed[gone]["last_status"]) == ("127.0.0.1", 410)
    name = listed[gone]["id"]
    assert await callbacks(outbox, 0, "replay", name) == {"replayed": [name], "not_given_up": []}
    first, second = await came(receiver, "gone", 2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == name
    await row_once(outbox, gone, "delivered_at")
    assert (await callbacks(outbox, 4, "replay", name))["not_given_up"] == [name]
    assert "--all" in (await callbacks(outbox, 2, "replay"))["error"]["message"]


async def callbacks(outbox: OutboxServer, code: int, *arguments: str) -> Any:
    """Run `holdfast callbacks` and read its JSON; it must end with the code."""
    command, variables, folder = outbox.cli(*arguments, "--json")
    made = await asyncio.to_thread(
        subprocess.run, command, env=variables, cwd=folder, capture_output=True, text=True, check=False
    )
    assert made.returncode == code, made.stderr
    return json.loads(made.stdout)


async def test_a_silent_receiver_holds_up_no_other(
    outbox: OutboxServer, sdk: Sdk, receiver: Receiver
) -> None:
    receiver.answers["silent"] = [(0, {})] * 100
    loop = asyncio.get_running_loop()
    took: list[float] = []
    # Each is given up after 3 s. A busy machine may need as long for one run, but hardly each time.
    while not took or (took[-1] >= 2 and len(took) < 4):
        for _ in range(12):
            await start(sdk, "echo", {"text": "a"}, receiver.url("silent"))
        await came(receiver, "silent", 2 * (len(took) + 1))
        began = loop.time()
        await start(sdk, "echo", {"text": "b"}, receiver.url("quick", host="localhost"))
        await came(receiver, "quick", len(took) + 1)
        took.append(loop.time() - began)
    assert took[-1] < 2, took
    receiver.released.set()


async def test_two_servers_deliver_each_callback_once(
    outbox: OutboxServer, sdk: Sdk, receiver: Receiver, services: Services, tmp_path: Any
) -> None:
    with running_outbox_server(tmp_path, services, outbox.database_uri):
        names = [f"run-{number}" for number in range(60)]
        await asyncio.gather(*(start(sdk, "echo", {"text": name}, receiver.url(name)) for name in names))
        for name in names:
            await came(receiver, name)

        async def all_noted() -> bool:
            return not (await callbacks(outbox, 0, "pending"))["callbacks"]

        await until(all_noted, "all are delivered")
    assert {len(receiver.came[name]) for name in names} == {1}


async def test_what_a_killed_server_owed_its_successor_delivers(
    engine: str, services: Services, receiver: Receiver, tmp_path: Any
) -> None:
    """Also the callback of a run that kills every server that tries it."""
    database_uri = services.make_database("killed")
    receiver.answers["held"] = [(0, {})]
    with running_outbox_server(tmp_path, services, database_uri) as server:
        async with plain_http(server.url) as http:
            _, owed = await start(LangGraphClient(http), "echo", {"text": "a"}, receiver.url("held"))
            await came(receiver, "held")
            server.kill()
        assert server.rows(owed)[0]["delivered_at"] is None
        server.start()
        first, second = await came(receiver, "held", 2)
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        async with plain_http(server.url) as http:
            _, poison = await start(LangGraphClient(http), "poison", {}, receiver.url("poison"))
            await asyncio.to_thread(server.wait)
        server.start()
        (told,) = await came(receiver, "poison")
        assert (told.json["run_id"], told.json["status"]) == (poison, "error")
        assert "exceeded max attempts" in told.json["error"]["message"]
        assert "died" in told.json["error"]["message"]


async def test_a_server_that_stops_delivers_or_gives_back(
    engine: str, services: Services, receiver: Receiver, tmp_path: Any
) -> None:
    database_uri = services.make_database("stopped")
    with running_outbox_server(
        tmp_path, services, database_uri, HOLDFAST_CALLBACK_TIMEOUT_SECONDS="60"
    ) as server:
        receiver.answers["held"] = [(0, {})]
        async with plain_http(server.url) as http:
            _, held = await start(LangGraphClient(http), "echo", {"text": "a"}, receiver.url("held"))
            await came(receiver, "held")
        await asyncio.to_thread(server.stop)
        (row,) = server.rows(held)
        assert (row["claim_token"], row["delivered_at"]) == (None, None)
        server.start()
        await came(receiver, "held", 2)
        await row_once(server, held, "delivered_at")


async def test_with_custom_encryption_nothing_is_kept_in_plain_text(
    engine: str, services: Services, receiver: Receiver, tmp_path: Any
) -> None:
    # Without a list of receivers each address is looked up and judged, at redirects too.
    policy = json.dumps({"url": {"disable_loopback": False, "require_https": False}})
    with running_outbox_server(
        tmp_path,
        services,
        services.make_database("sealed_outbox"),
        "langgraph.encrypted.json",
        LANGGRAPH_WEBHOOKS=policy,
    ) as server:
        receiver.answers["sealed"] = [(500, {}), (307, {"location": "/onward"})]
        async with plain_http(server.url) as http:
            thread_id, run_id = await start(
                LangGraphClient(http), "echo", {"text": "private"}, receiver.url("sealed")
            )
        await came(receiver, "sealed")
        stored = bytes(server.rows(run_id)[0]["body"])
        (second,) = await came(receiver, "onward")
    assert b"private" not in stored
    assert b"sealed:" in stored
    body = Webhook(SECRET).verify(second.body, second.headers)
    assert (body["thread_id"], body["values"]["heard"]) == (thread_id, ["private"])


async def test_the_receiver_of_this_project_takes_it_and_nothing_forged(
    outbox: OutboxServer, sdk: Sdk, services: Services, tmp_path: Any
) -> None:
    port = choose_ports({"CALLBACKS_PORT": 0})["CALLBACKS_PORT"]
    inbox = f"http://127.0.0.1:{port}/callbacks/runs"
    variables = environment(
        LG_WEBHOOK_TOKEN=TOKEN,
        LG_WEBHOOK_SIGNING_SECRET=SECRET,
        CALLBACKS_DATABASE_URI=services.make_database("signed_inbox"),
        HOLDFAST_URL=outbox.url,
    )
    command = [sys.executable, "-m", "sdk_client.callbacks", "--port", str(port)]
    # It is started only after its callback has been tried in vain.
    thread_id, run_id = await start(sdk, "echo", {"text": "a"}, inbox)
    await row_once(outbox, run_id, "last_error")
    part = RunningPart(Part("receiver", command, variables, tmp_path, log=tmp_path / "receiver.log"))
    try:
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as http:

            async def handled() -> Any:
                try:
                    answer = await http.get(f"{inbox}/{run_id}")
                except httpx.TransportError:
                    return None
                rows = answer.json().get("callbacks", [])
                return rows if rows and rows[0]["state"] == "handled" else None

            (row,) = await until(handled, "the run is handled")
            forged = {"run_id": run_id, "thread_id": thread_id, "status": "error"}
            refused = await http.post(inbox, json=forged)
            assert (refused.status_code, "not signed" in refused.json()["error"]) == (401, True)
    finally:
        part.stop()
    (told,) = outbox.rows(run_id)
    assert (row["deliveries"], row["webhook_id"]) == (1, str(told["id"]))
    assert told["delivered_at"] is not None


async def test_its_gauges_are_shown(outbox: OutboxServer, sdk: Sdk, receiver: Receiver) -> None:
    receiver.answers["gone"] = [(410, {})]
    _, run_id = await start(sdk, "echo", {"text": "a"}, receiver.url("gone"))
    await row_once(outbox, run_id, "dead_at")
    with psycopg.connect(outbox.database_uri) as connection:
        [(dead,)] = connection.execute("SELECT count(*) FROM outbox WHERE dead_at IS NOT NULL").fetchall()
    wanted = f"lg_api_num_dead_callbacks {float(dead)}"

    async def shown() -> bool:
        async with plain_http(outbox.url) as http:
            return wanted in (await http.get("/metrics")).text.splitlines()

    await until(shown, "the gauge shows the dead letters")
