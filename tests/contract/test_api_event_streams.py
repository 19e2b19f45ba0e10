"""The second streaming protocol: commands and events of a thread, over HTTP and over a websocket."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect as connect_websocket

from tests.contract.api import Sdk, expect_refusals, parts_of, until_status


async def events_until(stream: Any, *ends: str) -> list[Any]:
    """The events of a thread of the second protocol, up to a point in its life."""
    found = []
    async with asyncio.timeout(60):
        async for event in stream:
            found.append(event)
            if event.get("method") == "lifecycle" and event["params"]["data"]["event"] in ends:
                break
    return found


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_the_second_protocol(sdk: Sdk, transport: Any) -> None:
    async with sdk.threads.stream(assistant_id="talker", transport=transport) as thread:
        await thread.run.start(input={"messages": [{"role": "user", "content": "one two three"}]})
        events = await events_until(thread.events, "completed")
        final = await asyncio.wait_for(thread.output, 60)
    said = [event["params"]["data"] for event in events if event.get("method") == "messages"]
    assert [part["delta"]["text"] for part in said if part["event"] == "content-block-delta"] == [
        *("one ", "two ", "three ")
    ]
    assert [event["params"]["data"]["event"] for event in events if event.get("method") == "lifecycle"] == [
        *("running", "completed")
    ]
    assert [message["type"] for message in final["messages"]] == ["human", "ai"]


async def test_the_second_protocol_answers_an_interrupt(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    async with sdk.threads.stream(thread_id, assistant_id="asks_freely") as thread:
        await thread.run.start(input={"text": "x"})
        async with asyncio.timeout(60):
            async for _ in thread.values:
                pass
            assert thread.interrupted
            await thread.run.respond(5)
            await thread.output
    assert (await sdk.threads.get_state(thread_id))["values"]["answers"] == [5]


async def test_the_second_protocol_replays_a_finished_thread(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = str(uuid.uuid4())
    started = await http.post(
        f"/threads/{thread_id}/commands",
        json={"id": 1, "method": "run.start", "params": {"assistant_id": "echo", "input": {"text": "a"}}},
    )
    await until_status(sdk, thread_id, started.json()["result"]["run_id"], "success")

    async def events(since: int | None) -> list[Any]:
        body = {"channels": ["values", "lifecycle"], "since": since}
        async with http.stream("POST", f"/threads/{thread_id}/stream/events", json=body) as answer:
            return await events_until((part.data async for part in parts_of(answer)), "completed")

    whole = await events(None)
    assert [event["seq"] for event in whole] == sorted({event["seq"] for event in whole})
    assert {"values", "lifecycle"} == {event["method"] for event in whole}
    rest = await events(whole[1]["seq"])
    assert [event["event_id"] for event in rest] == [event["event_id"] for event in whole[2:]]


async def test_the_websocket_answers_commands(server_url: str) -> None:
    address = f"{server_url.replace('http', 'ws', 1)}/threads/{uuid.uuid4()}/stream/events"
    async with asyncio.timeout(60), connect_websocket(address) as socket:
        await socket.send("nonsense")
        assert json.loads(await socket.recv())["error"] == "invalid_argument"
        await socket.send(json.dumps({"id": 1, "method": "sing"}))
        assert json.loads(await socket.recv())["error"] == "unknown_command"
        await socket.send(
            json.dumps({"id": 2, "method": "subscription.subscribe", "params": {"channels": ["values"]}})
        )
        assert json.loads(await socket.recv())["type"] == "success"
        start = {"assistant_id": "echo", "input": {"text": "a"}}
        await socket.send(json.dumps({"id": 3, "method": "run.start", "params": start}))
        heard: Any = None
        while heard != ["a"]:
            event = json.loads(await socket.recv())
            if event.get("method") == "values":
                heard = event["params"]["data"].get("heard")


async def test_bad_input(http: httpx.AsyncClient) -> None:
    thread_id = uuid.uuid4()
    await expect_refusals(
        http,
        [
            ("POST", f"/threads/{thread_id}/stream/events", {"channels": ["films"]}, 400, "films"),
            ("POST", f"/threads/{thread_id}/stream/events", {}, 400, "channels"),
            ("POST", f"/threads/{thread_id}/commands", {"id": "x"}, 400, "integer id"),
            ("POST", f"/threads/{thread_id}/commands", {"id": 1, "method": "sing"}, 200, "unknown_command"),
        ],
    )
