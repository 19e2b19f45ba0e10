"""Streams of a run and of a thread: every mode, and resumed from any place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
from langgraph_sdk.schema import StreamPart

from tests.contract.api import Sdk, expect_refusals, parts_of, thread_after, until_status

TICKS = 30
INPUTS: dict[str, Any] = {
    "echo": {"text": "a"},
    "ticker": {"ticks": TICKS, "pause_seconds": 0},
    "talker": {"messages": [{"role": "user", "content": "one two three"}]},
    "nested": {},
}


async def collected(stream: AsyncIterator[StreamPart]) -> list[StreamPart]:
    return [part async for part in stream]


async def streamed(sdk: Sdk, graph: str, *modes: Any, **options: Any) -> list[StreamPart]:
    """The parts of a stateless run's stream, without the metadata that comes first."""
    parts = await collected(
        sdk.runs.stream(None, graph, input=INPUTS[graph], stream_mode=list(modes), **options)
    )
    assert parts[0].event == "metadata"
    assert parts[0].data["run_id"]
    return parts[1:]


def data_of(parts: list[StreamPart], event: str) -> list[Any]:
    return [part.data for part in parts if part.event == event]


async def test_every_mode(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    values, updates, custom, debug, tasks, events, both = await asyncio.gather(
        streamed(sdk, "echo", "values"),
        streamed(sdk, "echo", "updates"),
        streamed(sdk, "ticker", "custom"),
        streamed(sdk, "echo", "debug"),
        streamed(sdk, "echo", "tasks"),
        streamed(sdk, "echo", "events"),
        streamed(sdk, "echo", "values", "updates"),
    )
    assert data_of(values, "values")[-1] == {"text": "a", "heard": ["a"]}
    assert {part.event for part in values} == {"values"}
    assert data_of(updates, "updates") == [{"say": {"heard": ["a"]}}]
    assert len(data_of(custom, "custom")) == TICKS
    assert {"task", "task_result"} <= {part["type"] for part in data_of(debug, "debug")}
    assert [part["name"] for part in data_of(tasks, "tasks")] == ["say", "say"]
    kept = await collected(sdk.runs.stream(thread_id, "echo", input={"text": "a"}, stream_mode="checkpoints"))
    assert data_of(kept, "checkpoints")[-1]["values"] == {"text": "a", "heard": ["a"]}
    assert {"on_chain_start", "on_chain_end"} <= {part["event"] for part in data_of(events, "events")}
    assert {part.event for part in both} == {"values", "updates"}


async def test_messages_come_word_by_word(sdk: Sdk) -> None:
    tuples, whole = await asyncio.gather(
        streamed(sdk, "talker", "messages-tuple"), streamed(sdk, "talker", "messages")
    )
    words = [message["content"] for message, _ in data_of(tuples, "messages") if message["content"]]
    assert words == ["one ", "two ", "three "]
    assert data_of(tuples, "messages")[0][1]["langgraph_node"] == "speak"
    assert data_of(whole, "messages/metadata")
    grown = [parts[0]["content"] for parts in data_of(whole, "messages/partial")]
    assert "one two three " in grown
    assert len(grown) >= 3


async def test_subgraphs_name_themselves(sdk: Sdk) -> None:
    with_inner, without = await asyncio.gather(
        streamed(sdk, "nested", "updates", stream_subgraphs=True), streamed(sdk, "nested", "updates")
    )
    assert any(part.event.startswith("updates|inner:") for part in with_inner)
    assert {part.event for part in without} == {"updates"}


async def test_a_failing_run_ends_with_its_error(sdk: Sdk) -> None:
    parts = await collected(
        sdk.runs.stream(None, "failing", input={"reason": "no ink"}, stream_mode="updates")
    )
    assert parts[-1].event == "error"
    assert (parts[-1].data["error"], parts[-1].data["message"]) == ("ValueError", "no ink")


async def test_a_pause_is_in_the_stream(sdk: Sdk) -> None:
    parts = await collected(sdk.runs.stream(None, "asks_freely", input={}, stream_mode="updates"))
    (pause,) = data_of(parts, "updates")[-1]["__interrupt__"]
    assert pause["value"] == "How many?"


async def test_resumed_from_any_event(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    first = await collected(
        sdk.runs.stream(
            thread_id,
            "slow",
            input={"step_seconds": 0.1},
            stream_mode=["updates", "values"],
            stream_resumable=True,
        )
    )
    run_id = first[0].data["run_id"]
    places = {next(iter(part.data)): part.id for part in first if part.event == "updates"}

    async def again(last_event_id: str | None, **options: Any) -> list[StreamPart]:
        return await collected(
            sdk.runs.join_stream(thread_id, run_id, last_event_id=last_event_id, **options)
        )

    middle, zero, beginning, last, alone = await asyncio.gather(
        again(places["one"]),
        again("0"),
        again("-1"),
        again(first[-1].id),
        again("-1", stream_mode=["values"]),
    )
    assert data_of(middle, "updates") == [{"two": {"visited": ["two"]}}, {"three": {"visited": ["three"]}}]
    for mode in ("updates", "values"):
        assert data_of(zero, mode) == data_of(beginning, mode) == data_of(first, mode)
        assert data_of(last, mode) == []
    assert data_of(alone, "values") == data_of(first, "values")
    assert data_of(alone, "updates") == []


async def test_every_event_has_an_id_of_its_own(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    first = await collected(
        sdk.runs.stream(
            thread_id, "ticker", input=INPUTS["ticker"], stream_mode=["custom"], stream_resumable=True
        )
    )
    ids = [part.id for part in first if part.event == "custom"]
    assert len(set(ids)) == TICKS
    rest = await collected(sdk.runs.join_stream(thread_id, first[0].data["run_id"], last_event_id=ids[9]))
    assert data_of(rest, "custom") == data_of(first, "custom")[10:]


async def test_joined_while_it_runs(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    run = await sdk.runs.create(
        thread_id,
        "ticker",
        input={"ticks": 200, "pause_seconds": 0.05},
        stream_mode=["custom"],
        stream_resumable=True,
    )
    await until_status(sdk, thread_id, run["run_id"], "running")
    parts = await asyncio.gather(
        *(
            collected(sdk.runs.join_stream(thread_id, run["run_id"], last_event_id=place))
            for place in ("-1", "0", "-1")
        )
    )
    for one in parts:
        assert data_of(one, "custom") == [{"tick": n} if n % 3 else {"blank": " "} for n in range(200)]


async def test_of_a_finished_run_that_was_not_kept(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    run = await sdk.runs.create(thread_id, "echo", input=INPUTS["echo"])
    await sdk.runs.join(thread_id, run["run_id"])
    parts = await asyncio.wait_for(collected(sdk.runs.join_stream(thread_id, run["run_id"])), 60)
    assert "error" not in {part.event for part in parts}


async def test_of_a_thread_over_several_runs(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    open_ = asyncio.Event()

    async def follow(last_event_id: str | None = None) -> list[StreamPart]:
        """Everything up to the end of the second run."""
        found: list[StreamPart] = []
        headers = {"last-event-id": last_event_id} if last_event_id else {}
        path = f"/threads/{thread_id}/stream?stream_modes=run_modes,lifecycle,state_update"
        async with asyncio.timeout(60), http.stream("GET", path, headers=headers) as answer:
            open_.set()
            async for part in parts_of(answer):
                found.append(part)
                if len([p for p in found if p.data.get("status") == "run_done"]) == 2:
                    break
        return found

    following = asyncio.create_task(follow())
    await open_.wait()
    for text in "ab":
        await collected(
            sdk.runs.stream(
                thread_id, "echo", input={"text": text}, stream_mode=["updates"], stream_resumable=True
            )
        )
    seen = await following
    assert data_of(seen, "updates") == [{"say": {"heard": ["a"]}}, {"say": {"heard": ["b"]}}]
    assert len({part.data["run_id"] for part in seen if part.data.get("status") == "run_done"}) == 2
    rest = await follow(last_event_id=seen[0].id)
    assert data_of(rest, "updates") == data_of(seen, "updates")
    assert data_of(await follow(last_event_id="0"), "updates") == data_of(seen, "updates")


async def test_bad_input(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = await thread_after(sdk, "echo", {"text": "a"})
    (run,) = await sdk.runs.list(thread_id)
    await expect_refusals(
        http,
        [
            ("GET", f"/threads/{thread_id}/runs/nonsense/stream", None, 422, "UUID"),
            ("GET", "/threads/nonsense/stream", None, 422, "UUID"),
            ("GET", f"/threads/{thread_id}/stream?stream_modes=films", None, 422, "films"),
            ("POST", "/runs/stream", {"assistant_id": "echo", "stream_mode": ["films"]}, 422, "films"),
            ("POST", "/runs/stream", {"assistant_id": "echo", "stream_mode": ["tools"]}, 422, "tools"),
        ],
    )
    odd = await http.get(f"/threads/{thread_id}/stream", headers={"last-event-id": "nonsense"})
    assert (odd.status_code, "last-event-id" in odd.text) == (422, True)
    path = f"/threads/{thread_id}/runs/{run['run_id']}/stream"
    answer = await http.get(path, headers={"last-event-id": "nonsense'; --"})
    assert answer.status_code in (200, 422)
