"""Threads: their life, how they are found, copied, pruned, and what a deleted one leaves behind."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError

from tests.contract.api import Sdk, expect_refusals, rows_of_thread, thread_after, until_status, values_of
from tests.contract.engines import Server


async def test_create_get_update(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = str(uuid.uuid4())
    made = await sdk.threads.create(thread_id=thread_id, metadata={"a": 1}, graph_id="echo")
    assert (made["thread_id"], made["status"], made["values"]) == (thread_id, "idle", None)
    assert made["metadata"] == {"a": 1, "graph_id": "echo"}
    with pytest.raises(ConflictError):
        await sdk.threads.create(thread_id=thread_id)
    again = await sdk.threads.create(thread_id=thread_id, if_exists="do_nothing", metadata={"a": 2})
    assert again["metadata"] == made["metadata"]

    changed = await sdk.threads.update(thread_id, metadata={"b": 2})
    assert changed["metadata"] == {"a": 1, "b": 2, "graph_id": "echo"}
    assert changed["updated_at"] > made["updated_at"]
    assert (await sdk.threads.get(thread_id))["metadata"] == changed["metadata"]
    silent = await http.patch(
        f"/threads/{thread_id}", json={"metadata": {"c": 3}}, headers={"Prefer": "return=minimal"}
    )
    assert (silent.status_code, silent.content) == (204, b"")
    assert (await sdk.threads.get(thread_id))["metadata"]["c"] == 3

    await sdk.threads.delete(thread_id)
    with pytest.raises(NotFoundError):
        await sdk.threads.get(thread_id)


async def test_create_at_once_many_times(sdk: Sdk) -> None:
    thread_id = str(uuid.uuid4())
    made = await asyncio.gather(
        *(
            sdk.threads.create(thread_id=thread_id, if_exists="do_nothing", metadata={"n": n})
            for n in range(10)
        )
    )
    assert len({str(thread["metadata"]) for thread in made}) == 1


async def test_create_with_supersteps(sdk: Sdk) -> None:
    thread = await sdk.threads.create(
        graph_id="echo",
        supersteps=[
            {"updates": [{"values": {"text": "x"}, "as_node": "__input__"}]},
            {"updates": [{"values": {"text": "x"}, "as_node": "__start__"}]},
            {"updates": [{"values": {"heard": ["x"]}, "as_node": "say"}]},
        ],
    )
    thread_id = thread["thread_id"]
    assert await values_of(sdk, thread_id) == {"text": "x", "heard": ["x"]}
    assert len(await sdk.threads.get_history(thread_id)) == 3
    await sdk.runs.wait(thread_id, "echo", input={"text": "y"})
    assert (await values_of(sdk, thread_id))["heard"] == ["x", "y"]


async def test_a_copy_has_the_history_and_its_own_future(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = await thread_after(sdk, "echo", {"text": "a"})
    await sdk.threads.update(thread_id, metadata={"kept": True})
    copied = (await http.post(f"/threads/{thread_id}/copy")).json()
    copy_id = copied["thread_id"]
    assert copy_id != thread_id
    assert copied["metadata"]["kept"] is True
    source, target = await asyncio.gather(
        *(sdk.threads.get_history(i, limit=10) for i in (thread_id, copy_id))
    )
    assert [state["values"] for state in source] == [state["values"] for state in target]
    assert await sdk.runs.list(copy_id) == []
    await sdk.runs.wait(copy_id, "echo", input={"text": "b"})
    assert (await values_of(sdk, copy_id))["heard"] == ["a", "b"]
    assert (await values_of(sdk, thread_id))["heard"] == ["a"]


async def test_a_copy_of_a_waiting_thread_can_be_resumed(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = await thread_after(sdk, "asks_freely", {})
    copy_id = (await http.post(f"/threads/{thread_id}/copy")).json()["thread_id"]
    await sdk.runs.wait(copy_id, "asks_freely", command={"resume": 7})
    assert (await values_of(sdk, copy_id))["answers"] == [7]
    assert (await sdk.threads.get(thread_id))["status"] == "interrupted"


async def test_search_and_count(sdk: Sdk, http: httpx.AsyncClient) -> None:
    mark = str(uuid.uuid4())
    with_mark = {"mark": mark}
    idle, waiting, failed = [
        (await sdk.threads.create(metadata={**with_mark, "n": n, "deep": {"x": {"y": n}}}))["thread_id"]
        for n in range(3)
    ]
    await asyncio.gather(
        sdk.runs.wait(idle, "echo", input={"text": "needle"}),
        sdk.runs.wait(waiting, "asks_freely", input={"text": "hay"}),
        sdk.runs.wait(failed, "failing", input={"reason": "broken"}, raise_error=False),
    )

    async def ids(**query: Any) -> list[str]:
        return [
            thread["thread_id"] for thread in await sdk.threads.search(**{"metadata": with_mark, **query})
        ]

    assert set(await ids()) == {idle, waiting, failed}
    assert await ids(status="idle") == [idle]
    assert await ids(status="interrupted") == [waiting]
    assert await ids(status="error") == [failed]
    assert await ids(values={"text": "needle"}) == [idle]
    assert await ids(metadata={**with_mark, "deep": {"x": {"y": 1}}}) == [waiting]
    assert set(await ids(metadata={}, ids=[idle, failed, str(uuid.uuid4())])) == {idle, failed}
    assert await ids(sort_by="created_at", sort_order="asc") == [idle, waiting, failed]
    assert await ids(sort_by="created_at", sort_order="desc") == [failed, waiting, idle]
    assert await ids(sort_by="thread_id", sort_order="asc") == sorted([idle, waiting, failed])
    assert await ids(sort_by="created_at", sort_order="asc", limit=1, offset=1) == [waiting]
    assert len(await ids(sort_by="updated_at")) == len(await ids(sort_by="status")) == 3
    assert await sdk.threads.count(metadata=with_mark) == 3
    assert await sdk.threads.count(metadata=with_mark, status="error") == 1
    assert await sdk.threads.count(metadata=with_mark, values={"text": "needle"}) == 1

    found = await sdk.threads.search(metadata={**with_mark, "n": 0}, select=["thread_id", "status"])
    assert found == [{"thread_id": idle, "status": "idle"}]
    found = await sdk.threads.search(
        metadata={**with_mark, "n": 0},
        select=["thread_id"],
        extract={"first": "values.heard[0]", "y": "metadata.deep.x.y", "none": "values.absent[3].a"},
    )
    assert found == [{"thread_id": idle, "extracted": {"first": "needle", "y": 0, "none": None}}]
    page = await http.post("/threads/search", json={"metadata": with_mark, "limit": 2})
    assert page.headers["x-pagination-next"] == "2"
    assert len(page.json()) == 2
    (thread,) = await sdk.threads.search(metadata={**with_mark, "n": 1})
    assert [interrupt["value"] for one in thread["interrupts"].values() for interrupt in one] == ["How many?"]
    (thread,) = await sdk.threads.search(metadata={**with_mark, "n": 2})
    assert thread["error"] is not None


async def test_metadata_is_matched_by_containment(sdk: Sdk) -> None:
    mark = str(uuid.uuid4())
    await sdk.threads.create(metadata={"mark": mark, "list": [1, {"a": 2, "b": 3}]})
    assert await sdk.threads.count(metadata={"mark": mark, "list": [{"a": 2}]}) == 1
    assert await sdk.threads.count(metadata={"mark": mark, "list": [2]}) == 0


async def test_values_are_matched_by_containment_too(sdk: Sdk) -> None:
    mark = str(uuid.uuid4())
    await sdk.threads.create()  # one without values is no obstacle
    thread_id = await thread_after(sdk, "echo", {"text": mark})
    assert await sdk.threads.count(values={"text": mark}) == 1
    assert [t["thread_id"] for t in await sdk.threads.search(values={"heard": [mark]})] == [thread_id]
    assert await sdk.threads.count(values={"' OR 1=1 --": "%"}) == 0


async def test_prune_deletes_those_and_no_others(sdk: Sdk, http: httpx.AsyncClient) -> None:
    gone, kept = await asyncio.gather(*(thread_after(sdk, "echo", {"text": n}) for n in "ab"))
    assert (await sdk.threads.prune([gone]))["pruned_count"] == 1
    assert (await http.get(f"/threads/{gone}")).status_code == 404
    assert (await values_of(sdk, kept))["heard"] == ["b"]
    assert (await sdk.threads.prune([]))["pruned_count"] == 0


async def test_prune_keeps_the_latest(sdk: Sdk) -> None:
    thread_id = await thread_after(sdk, "echo", {"text": "a"})
    await sdk.runs.wait(thread_id, "echo", input={"text": "b"})
    waiting = await thread_after(sdk, "asks_freely", {"text": "a"})
    assert (await sdk.threads.prune([thread_id, waiting], strategy="keep_latest"))["pruned_count"] == 2
    assert len(await sdk.threads.get_history(thread_id, limit=100)) == 1
    await sdk.runs.wait(thread_id, "echo", input={"text": "c"})
    assert (await values_of(sdk, thread_id))["heard"] == ["a", "b", "c"]
    await sdk.runs.wait(waiting, "asks_freely", command={"resume": 1})
    assert (await values_of(sdk, waiting))["answers"] == [1]


async def test_deleted_while_it_runs_it_leaves_nothing(
    sdk: Sdk, http: httpx.AsyncClient, server: Server
) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    run = await sdk.runs.create(thread_id, "slow", input={"step_seconds": 0.7})
    await until_status(sdk, thread_id, run["run_id"], "running")
    await sdk.threads.delete(thread_id)
    await thread_after(sdk, "slow", {"step_seconds": 0.9})  # by now the deleted one would have been done too
    for path in ("", "/state", "/runs", f"/runs/{run['run_id']}"):
        assert (await http.get(f"/threads/{thread_id}{path}")).status_code == 404
    if not server.database_uri:
        return
    assert rows_of_thread(server.database_uri, thread_id) == {}

    async def join_deleted(number: int) -> str:
        """Join an ended run in the moment in which its thread is deleted."""
        thread_id = (await sdk.threads.create())["thread_id"]
        run = await sdk.runs.create(thread_id, "echo", input={"text": f"{number}"})
        await sdk.runs.join(thread_id, run["run_id"])
        path = f"/threads/{thread_id}"
        answer, _ = await asyncio.gather(http.get(f"{path}/runs/{run['run_id']}/join"), http.delete(path))
        return answer.text.strip()

    told = set(await asyncio.gather(*(join_deleted(number) for number in range(60))))
    assert all('"heard"' in each or "404" in each for each in told), told


async def test_what_its_checkpoints_occupy(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = await thread_after(sdk, "echo", {"text": "x" * 5000})
    answer = (await http.get(f"/threads/{thread_id}/storage")).json()
    assert answer["thread_id"] == thread_id
    assert answer["total_bytes"] > 5000
    assert answer["checkpoints"]["count"] == len(await sdk.threads.get_history(thread_id, limit=10))
    assert {"text", "heard"} <= set(answer["channel_values"]["by_channel"])


async def test_bad_input(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    absent = str(uuid.uuid4())
    await expect_refusals(
        http,
        [
            ("POST", "/threads", {"thread_id": "nonsense"}, 422, "UUID"),
            ("POST", "/threads", {"if_exists": "perhaps"}, 422, "perhaps"),
            ("POST", "/threads", {"metadata": []}, 422, "object"),
            ("POST", "/threads", b"\xff\xfe", 422, "JSON"),
            ("GET", "/threads/nonsense", None, 422, "UUID"),
            ("GET", f"/threads/{absent}", None, 404, "not found"),
            ("PATCH", f"/threads/{absent}", {"metadata": {}}, 404, "not found"),
            ("DELETE", f"/threads/{absent}", None, 404, "not found"),
            ("GET", f"/threads/{absent}/storage", None, 404, "not found"),
            ("POST", "/threads/prune", {"thread_ids": ["x"]}, 422, "UUID"),
            ("POST", "/threads/prune", {"thread_ids": [thread_id], "strategy": "all"}, 422, "all"),
            ("POST", "/threads/search", {"limit": -1}, 422, "-1"),
            ("POST", "/threads/search", {"offset": -5}, 422, "-5"),
            ("POST", "/threads/search", {"status": "asleep"}, 422, "asleep"),
            ("POST", "/threads/search", {"sort_by": "values"}, 422, "values"),
            ("POST", "/threads/search", {"select": ["secret"]}, 422, "secret"),
            ("POST", "/threads/search", {"ids": ["nonsense"]}, 400, "nonsense"),
            ("POST", "/threads/search", {"extract": {"x": "values; DROP TABLE thread"}}, 422, "extract"),
        ],
    )
    for nasty in ("' OR 1=1 --", "\"}]}'::jsonb) --", "\\", "%"):
        assert await sdk.threads.search(metadata={nasty: nasty}) == []
    assert (await sdk.threads.get(thread_id))["thread_id"] == thread_id


async def test_text_that_a_database_cannot_hold(http: httpx.AsyncClient) -> None:
    for metadata in ({"a": "nul \x00 inside"}, {"a": "\\ud800"}, {"n": 10**30}):
        answer = await http.post("/threads", json={"metadata": metadata})
        assert answer.status_code in (200, 422), answer.text
        if answer.status_code == 200:
            kept = await http.get(f"/threads/{answer.json()['thread_id']}")
            assert kept.json()["metadata"].keys() == metadata.keys()
