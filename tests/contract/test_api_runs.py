"""Runs: created, found, waited for, resumed, steered; alone and on threads."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import datetime
from typing import Any

import httpx
import pytest
from langgraph_sdk.errors import NotFoundError

from tests.contract.api import Sdk, expect_refusals, statuses, thread_after, until, until_status, values_of


async def test_a_run_from_create_to_delete(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    path = f"/threads/{thread_id}/runs"
    answer = await http.post(
        path, json={"assistant_id": "echo", "input": {"text": "a"}, "metadata": {"m": 1}, "run_id": "mine"}
    )
    run = answer.json()
    assert answer.headers["content-location"] == f"{path}/{run['run_id']}"
    assert (run["status"], run["thread_id"], run["multitask_strategy"]) == ("pending", thread_id, "enqueue")
    assert run["metadata"]["m"] == 1
    assert run["kwargs"]["input"] == {"text": "a"}
    assert await sdk.runs.join(thread_id, run["run_id"]) == {"text": "a", "heard": ["a"]}
    done = await sdk.runs.get(thread_id, run["run_id"])
    assert (done["status"], done["assistant_id"]) == ("success", run["assistant_id"])
    assert done["updated_at"] >= run["created_at"]
    thread = await sdk.threads.get(thread_id)
    assert (thread["status"], thread["values"]["heard"], thread["metadata"]["graph_id"]) == (
        "idle",
        ["a"],
        "echo",
    )
    assert await sdk.runs.join(thread_id, run["run_id"]) == {"text": "a", "heard": ["a"]}

    await sdk.runs.delete(thread_id, run["run_id"])
    with pytest.raises(NotFoundError):
        await sdk.runs.get(thread_id, run["run_id"])
    assert await sdk.runs.list(thread_id) == []


async def test_a_threads_runs(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    made = [
        (await sdk.runs.create(thread_id, graph, input=values))["run_id"]
        for graph, values in (("echo", {"text": "a"}), ("failing", {"reason": "b"}), ("echo", {"text": "c"}))
    ]
    await until_status(sdk, thread_id, made[-1], "success")
    assert list(await statuses(sdk, thread_id)) == made[::-1]
    assert [run["run_id"] for run in await sdk.runs.list(thread_id, limit=1, offset=1)] == [made[1]]
    assert [run["run_id"] for run in await sdk.runs.list(thread_id, status="error")] == [made[1]]
    chosen = await http.get(
        f"/threads/{thread_id}/runs", params={"select": ["run_id", "status"], "status": "error"}
    )
    assert chosen.json() == [{"run_id": made[1], "status": "error"}]


async def test_a_batch(sdk: Sdk) -> None:
    made = await sdk.runs.create_batch(
        [{"assistant_id": "echo", "input": {"text": str(n)}, "on_completion": "keep"} for n in range(5)]
    )
    results = await asyncio.gather(*(sdk.runs.join(run["thread_id"], run["run_id"]) for run in made))
    assert sorted(result["text"] for result in results) == ["0", "1", "2", "3", "4"]


async def test_without_a_thread(sdk: Sdk, http: httpx.AsyncClient) -> None:
    assert await sdk.runs.wait(None, "echo", input={"text": "a"}) == {"text": "a", "heard": ["a"]}
    kept, gone = await asyncio.gather(
        *(
            http.post(
                "/runs/wait", json={"assistant_id": "echo", "input": {"text": "a"}, "on_completion": end}
            )
            for end in ("keep", "delete")
        )
    )
    kept_thread, gone_thread = (answer.headers["content-location"].split("/")[2] for answer in (kept, gone))
    assert (await values_of(sdk, kept_thread))["heard"] == ["a"]

    async def is_gone() -> bool:
        return (await http.get(f"/threads/{gone_thread}")).status_code == 404

    await until(is_gone, "the thread of a finished stateless run is gone")
    run = await sdk.runs.create(None, "echo", input={"text": "a"})
    gone_thread = run["thread_id"]
    await until(is_gone, "the thread of a background run is gone")


async def test_later(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    began = time.monotonic()
    run = await sdk.runs.create(thread_id, "echo", input={"text": "a"}, after_seconds=2)
    assert run["status"] == "pending"
    await sdk.runs.join(thread_id, run["run_id"])
    assert time.monotonic() - began >= 1.9
    assert (await values_of(sdk, thread_id))["heard"] == ["a"]


async def test_on_a_thread_that_is_not_there(sdk: Sdk) -> None:
    thread_id = str(uuid.uuid4())
    with pytest.raises(NotFoundError):
        await sdk.runs.create(thread_id, "echo", input={"text": "a"})
    await sdk.runs.wait(thread_id, "echo", input={"text": "a"}, if_not_exists="create")
    assert (await values_of(sdk, thread_id))["heard"] == ["a"]


async def test_durability(sdk: Sdk) -> None:
    exit_, async_, sync = await asyncio.gather(
        *(thread_after(sdk, "slow", {"step_seconds": 0}, durability=d) for d in ("exit", "async", "sync"))
    )
    assert [len(await sdk.threads.get_history(i, limit=100)) for i in (exit_, async_, sync)] == [1, 5, 5]


async def test_interrupt_before_and_after(sdk: Sdk) -> None:
    quick = {"step_seconds": 0}
    before, after, everywhere = await asyncio.gather(
        thread_after(sdk, "slow", quick, interrupt_before=["two"]),
        thread_after(sdk, "slow", quick, interrupt_after=["two"]),
        thread_after(sdk, "slow", quick, interrupt_before="*"),
    )
    for thread_id, visited, following in (
        (before, ["one"], ["two"]),
        (after, ["one", "two"], ["three"]),
        (everywhere, [], ["one"]),
    ):
        state = await sdk.threads.get_state(thread_id)
        assert (state["values"].get("visited", []), state["next"]) == (visited, following)
        thread = await sdk.threads.get(thread_id)
        assert (thread["status"], thread["interrupts"]) == ("interrupted", {})
    results = await asyncio.gather(
        *(sdk.runs.wait(i, "slow", input=None) for i in (before, after, everywhere))
    )
    assert [result["visited"] for result in results] == [["one", "two", "three"]] * 3
    assert (await sdk.threads.get(before))["status"] == "idle"


async def test_resume_update_and_goto(sdk: Sdk) -> None:
    asked, updated, gone_to = await asyncio.gather(
        thread_after(sdk, "asks_freely", {}),
        thread_after(sdk, "asks_freely", {}),
        thread_after(sdk, "slow", {"step_seconds": 0}, interrupt_before=["one"]),
    )
    thread = await sdk.threads.get(asked)
    assert thread["status"] == "interrupted"
    ((pause,),) = thread["interrupts"].values()
    assert pause["value"] == "How many?"
    results = await asyncio.gather(
        sdk.runs.wait(asked, "asks_freely", command={"resume": {pause["id"]: 3}}),
        sdk.runs.wait(updated, "asks_freely", command={"resume": 4, "update": {"text": "new"}}),
        sdk.runs.wait(gone_to, "slow", command={"goto": "three", "update": {"visited": ["jumped"]}}),
    )
    assert results[0]["answers"] == [3]
    assert (results[1]["answers"], results[1]["text"]) == ([4], "new")
    assert "jumped" in results[2]["visited"]
    assert "three" in results[2]["visited"]
    thread = await sdk.threads.get(asked)
    assert (thread["status"], thread["interrupts"]) == ("idle", {})


async def test_several_interrupts_are_answered_by_their_ids(sdk: Sdk) -> None:
    thread_id = await thread_after(sdk, "two_at_once", {"text": "x"})
    waiting = [pause for one in (await sdk.threads.get(thread_id))["interrupts"].values() for pause in one]
    assert len(waiting) == 2
    answers = {pause["id"]: [pause["value"][0]["action_request"]["action"]] for pause in waiting}
    result = await sdk.runs.wait(thread_id, "two_at_once", command={"resume": answers})
    assert sorted(result["answers"]) == ["left", "right"]
    assert result["sent"] == ["x"]


async def test_a_wait_that_pauses_tells_the_interrupt(sdk: Sdk) -> None:
    result = await sdk.runs.wait(None, "asks_freely", input={}, on_completion="keep")
    assert [pause["value"] for pause in result["__interrupt__"]] == ["How many?"]


async def test_a_run_that_fails(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    answer = await http.post(
        f"/threads/{thread_id}/runs/wait", json={"assistant_id": "failing", "input": {"reason": "no ink"}}
    )
    assert answer.json()["__error__"] == {"error": "ValueError", "message": "no ink"}
    ((run_id, status),) = (await statuses(sdk, thread_id)).items()
    assert status == "error"
    thread = await sdk.threads.get(thread_id)
    assert thread["status"] == "error"
    assert (await values_of(sdk, thread_id))["prepared"] is True
    again = (await http.get(f"/threads/{thread_id}/runs/{run_id}/join")).json()
    assert again["__error__"]["message"] == "no ink"
    # The thread is not spent: the next run clears the error.
    await sdk.runs.wait(thread_id, "echo", input={"text": "a"})
    assert (await sdk.threads.get(thread_id))["status"] == "idle"


async def test_configuration_reaches_the_graph(sdk: Sdk, http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/runs/wait",
        json={
            "assistant_id": "reporter",
            "input": {},
            "config": {"configurable": {"colour": "red"}, "tags": ["urgent"]},
            "metadata": {"purpose": "test"},
        },
        headers={"x-colour": "blue", "x-other": "hidden"},
    )
    said = answer.json()
    assert (said["colour"], said["header"], said["tone"]) == ("red", "blue", None)
    assert "urgent" in said["tags"]
    assert said["metadata"] == {"purpose": "test", "graph_id": "reporter", "run_attempt": 1}
    assert (await sdk.runs.wait(None, "reporter", input={}, context={"tone": "dry"}))["tone"] == "dry"
    limited = await sdk.runs.wait(
        None, "slow", input={"step_seconds": 0}, config={"recursion_limit": 2}, raise_error=False
    )
    assert limited["__error__"]["error"] == "GraphRecursionError"


async def test_the_store_reaches_the_graph(sdk: Sdk) -> None:
    name = str(uuid.uuid4())
    said = await sdk.runs.wait(None, "reporter", input={"remember": name})
    assert name in said["remembered"]
    assert (await sdk.store.get_item(["reporter"], name))["value"] == {"text": name}


async def test_many_at_once_each_get_their_own_result(sdk: Sdk) -> None:
    results = await asyncio.gather(
        *(sdk.runs.wait(None, "echo", input={"text": str(n)}) for n in range(60)),
    )
    assert [result["heard"] for result in results] == [[str(n)] for n in range(60)]


async def test_when_it_was_made(sdk: Sdk) -> None:
    run = await sdk.runs.create(None, "echo", input={"text": "a"})
    made = datetime.fromisoformat(run["created_at"])
    assert made.tzinfo is not None
    assert abs(made.timestamp() - time.time()) < 60


async def test_bad_input(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    absent = str(uuid.uuid4())
    runs = f"/threads/{thread_id}/runs"
    good: dict[str, Any] = {"assistant_id": "echo", "input": {"text": "a"}}
    await expect_refusals(
        http,
        [
            ("POST", runs, {**good, "assistant_id": "absent"}, 422, "absent"),
            ("POST", runs, {**good, "assistant_id": absent}, 404, "not found"),
            ("POST", runs, {"input": {}}, 422, "assistant_id"),
            ("POST", runs, "nonsense", 422, "JSON"),
            ("POST", runs, [], 422, "object"),
            ("POST", runs, {**good, "multitask_strategy": "hurry"}, 422, "hurry"),
            ("POST", runs, {**good, "stream_mode": "films"}, 422, "films"),
            ("POST", runs, {**good, "durability": "never"}, 422, "never"),
            ("POST", "/runs", {**good, "on_completion": "explode"}, 422, "explode"),
            ("POST", runs, {**good, "checkpoint_id": "nonsense"}, 422, "checkpoint"),
            ("POST", runs, {**good, "webhook": "http://169.254.169.254/x"}, 422, "webhook"),
            (
                "POST",
                runs,
                {**good, "context": {"a": 1}, "config": {"configurable": {"b": 1}}},
                400,
                "context",
            ),
            ("POST", "/threads/nonsense/runs", good, 422, "Invalid thread ID"),
            ("POST", f"/threads/{absent}/runs", good, 404, "not found"),
            ("POST", f"/threads/{absent}/runs/wait", good, 404, "not found"),
            ("POST", f"/threads/{absent}/runs/stream", good, 404, "not found"),
            (
                "POST",
                "/runs/wait",
                {"assistant_id": "asks_freely", "command": {"resume": 1}},
                400,
                "thread_id",
            ),
            ("POST", "/runs/batch", [], 422, ""),
            ("GET", f"{runs}/nonsense", None, 422, "UUID"),
            ("GET", f"{runs}/{absent}", None, 404, "not found"),
            ("GET", f"/threads/{absent}/runs", None, 404, "not found"),
            ("GET", f"{runs}?limit=many", None, 400, "many"),
            ("GET", f"{runs}?select=secret", None, 422, "secret"),
            ("DELETE", f"{runs}/{absent}", None, 404, "not found"),
            ("POST", runs, {**good, "input": {"text": "x" * 2_100_000}}, 413, "too large"),
        ],
    )
    assert await sdk.runs.list(thread_id) == []
    joined = await http.get(f"{runs}/{absent}/join")
    assert joined.status_code == 404 or "not found" in joined.json()["__error__"]["message"]
