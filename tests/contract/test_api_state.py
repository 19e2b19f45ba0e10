"""The state of a thread: now, at a checkpoint, of a subgraph, changed by hand, forked."""

from __future__ import annotations

import uuid
from itertools import pairwise

import httpx
import pytest
from langgraph_sdk.errors import ConflictError

from tests.contract.api import Sdk, expect_refusals, thread_after, until_status, values_of


async def test_the_state_of_a_finished_and_of_a_waiting_thread(sdk: Sdk) -> None:
    done = await sdk.threads.get_state(
        await thread_after(sdk, "echo", {"text": "a"}, metadata={"purpose": "x"})
    )
    assert (done["values"], done["next"], done["tasks"]) == ({"text": "a", "heard": ["a"]}, [], [])
    assert done["metadata"]["source"] == "loop"
    assert done["metadata"]["step"] == 1
    assert done["metadata"]["purpose"] == "x"
    assert done["checkpoint"]["checkpoint_id"] == done["checkpoint_id"]
    assert done["parent_checkpoint"]["checkpoint_id"] == done["parent_checkpoint_id"]
    assert done["created_at"]

    waiting = await sdk.threads.get_state(await thread_after(sdk, "asks_freely", {}))
    assert waiting["next"] == ["ask_freely"]
    (task,) = waiting["tasks"]
    (pause,) = task["interrupts"]
    assert pause["value"] == "How many?"
    assert waiting["interrupts"] == task["interrupts"]

    failed = await sdk.threads.get_state(
        await thread_after(sdk, "failing", {"reason": "no ink"}, raise_error=False)
    )
    assert "no ink" in failed["tasks"][0]["error"]
    empty = await sdk.threads.get_state((await sdk.threads.create())["thread_id"])
    assert (empty["next"], empty["checkpoint"]) == ([], None)


async def test_history(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = await thread_after(sdk, "echo", {"text": "a"}, metadata={"round": 1})
    await sdk.runs.wait(thread_id, "echo", input={"text": "b"}, metadata={"round": 2})
    states = await sdk.threads.get_history(thread_id, limit=100)
    assert [state["metadata"]["step"] for state in states] == [4, 3, 2, 1, 0, -1]
    for newer, older in pairwise(states):
        assert newer["parent_checkpoint_id"] == older["checkpoint_id"]
    assert [s["checkpoint_id"] for s in await sdk.threads.get_history(thread_id, limit=2)] == [
        state["checkpoint_id"] for state in states[:2]
    ]
    first = await sdk.threads.get_history(thread_id, limit=100, metadata={"round": 1})
    assert [state["metadata"]["step"] for state in first] == [1, 0, -1]
    inputs = await sdk.threads.get_history(thread_id, limit=100, metadata={"source": "input"})
    assert [state["metadata"]["step"] for state in inputs] == [2, -1]
    by_get = (await http.get(f"/threads/{thread_id}/history", params={"limit": 3})).json()
    assert [state["checkpoint_id"] for state in by_get] == [state["checkpoint_id"] for state in states[:3]]


async def test_history_before_a_checkpoint(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = await thread_after(sdk, "slow", {"step_seconds": 0})
    states = await sdk.threads.get_history(thread_id, limit=100)
    wanted = [state["checkpoint_id"] for state in states[2:4]]
    found = await sdk.threads.get_history(thread_id, limit=2, before=states[1]["checkpoint"])
    assert [state["checkpoint_id"] for state in found] == wanted
    parameters = {"limit": 2, "before": states[1]["checkpoint_id"]}
    by_get = (await http.get(f"/threads/{thread_id}/history", params=parameters)).json()
    assert [state["checkpoint_id"] for state in by_get] == wanted


async def test_the_state_at_a_checkpoint(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = await thread_after(sdk, "echo", {"text": "a"})
    await sdk.runs.wait(thread_id, "echo", input={"text": "b"})
    middle = (await sdk.threads.get_history(thread_id, limit=100))[3]
    assert middle["values"] == {"text": "a", "heard": ["a"]}
    for found in (
        await sdk.threads.get_state(thread_id, checkpoint=middle["checkpoint"]),
        (await http.get(f"/threads/{thread_id}/state/{middle['checkpoint_id']}")).json(),
    ):
        assert (found["values"], found["checkpoint_id"]) == (middle["values"], middle["checkpoint_id"])


async def test_an_update_by_hand(sdk: Sdk) -> None:
    thread_id = await thread_after(sdk, "slow", {"step_seconds": 0}, interrupt_before=["two"])
    answer = await sdk.threads.update_state(thread_id, {"visited": ["by hand"]}, as_node="two")
    state = await sdk.threads.get_state(thread_id)
    assert state["checkpoint_id"] == answer["checkpoint"]["checkpoint_id"]
    assert (state["values"]["visited"], state["next"]) == (["one", "by hand"], ["three"])
    assert state["metadata"]["source"] == "update"
    thread = await sdk.threads.get(thread_id)
    assert thread["values"]["visited"] == ["one", "by hand"]
    await sdk.runs.wait(thread_id, "slow", input=None)
    assert (await values_of(sdk, thread_id))["visited"] == ["one", "by hand", "three"]


async def test_a_fork_from_the_past(sdk: Sdk) -> None:
    thread_id = await thread_after(sdk, "slow", {"step_seconds": 0})
    past = next(s for s in await sdk.threads.get_history(thread_id, limit=100) if s["next"] == ["two"])
    fork = await sdk.threads.update_state(thread_id, {"visited": ["forked"]}, checkpoint=past["checkpoint"])
    state = await sdk.threads.get_state(thread_id)
    assert state["checkpoint_id"] == fork["checkpoint"]["checkpoint_id"]
    assert state["parent_checkpoint_id"] == past["checkpoint_id"]
    assert state["values"]["visited"] == ["one", "forked"]
    await sdk.runs.wait(thread_id, "slow", input=None, checkpoint=fork["checkpoint"])
    assert (await values_of(sdk, thread_id))["visited"] == ["one", "forked", "two", "three"]


async def test_time_travel(sdk: Sdk) -> None:
    thread_id = await thread_after(sdk, "slow", {"step_seconds": 0})
    states = await sdk.threads.get_history(thread_id, limit=100)
    past = next(s for s in states if s["next"] == ["three"])
    result = await sdk.runs.wait(thread_id, "slow", input=None, checkpoint_id=past["checkpoint_id"])
    assert result["visited"] == ["one", "two", "three"]
    latest = await sdk.threads.get_state(thread_id)
    assert latest["parent_checkpoint_id"] != states[0]["checkpoint_id"]
    assert len(await sdk.threads.get_history(thread_id, limit=100)) > len(states)


async def test_the_state_of_a_subgraph(sdk: Sdk) -> None:
    thread_id = await thread_after(sdk, "nested", {"ask": True})
    outer = await sdk.threads.get_state(thread_id, subgraphs=True)
    (task,) = outer["tasks"]
    assert task["state"]["values"]["inner_note"] == "noted"
    assert task["state"]["next"] == ["decide"]
    flat = await sdk.threads.get_state(thread_id)
    inner = flat["tasks"][0]["checkpoint"]
    assert inner["checkpoint_ns"].startswith("inner:")
    await sdk.threads.update_state(thread_id, {"inner_note": "changed"}, checkpoint=inner)
    assert (await sdk.threads.get_state(thread_id, checkpoint=inner))["values"]["inner_note"] == "changed"
    result = await sdk.runs.wait(thread_id, "nested", command={"resume": "yes"})
    assert result["path"] == ["before", "before", "changed: yes", "after"]


async def test_no_update_while_a_run_is_busy(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    run = await sdk.runs.create(thread_id, "slow", input={"step_seconds": 30})
    await until_status(sdk, thread_id, run["run_id"], "running")
    with pytest.raises(ConflictError):
        await sdk.threads.update_state(thread_id, {"visited": ["x"]})
    await sdk.runs.cancel(thread_id, run["run_id"], wait=True)


async def test_bad_input(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = await thread_after(sdk, "echo", {"text": "a"})
    blank = (await sdk.threads.create())["thread_id"]
    absent = str(uuid.uuid4())
    await expect_refusals(
        http,
        [
            ("GET", "/threads/nonsense/state", None, 422, "UUID"),
            ("GET", f"/threads/{absent}/state", None, 404, "not found"),
            ("POST", f"/threads/{absent}/state", {"values": {}}, 404, "not found"),
            ("POST", f"/threads/{blank}/state", {"values": {"text": "a"}}, 400, "no assigned graph"),
            ("POST", f"/threads/{thread_id}/state", {"values": {}, "as_node": "absent"}, 400, "absent"),
            ("GET", f"/threads/{absent}/history", None, 404, "not found"),
            ("GET", f"/threads/{thread_id}/history?limit=many", None, 422, "many"),
            ("POST", f"/threads/{thread_id}/history", {"limit": "many"}, 422, "many"),
            ("POST", f"/threads/{thread_id}/history", {"limit": 10**9}, 422, "1000"),
            ("POST", f"/threads/{thread_id}/state/checkpoint", {}, 422, "checkpoint"),
        ],
    )
    unknown = await http.get(f"/threads/{thread_id}/state/{absent}")
    assert unknown.status_code in (200, 404)
    assert unknown.status_code == 404 or unknown.json()["values"] in ({}, [], None)
    odd = await http.get(f"/threads/{thread_id}/state/nonsense'--")
    assert odd.status_code < 500
