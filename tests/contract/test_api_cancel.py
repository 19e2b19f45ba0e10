"""Cancelling: by id, by status, with rollback, and because the caller has gone."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from langgraph_sdk.errors import NotFoundError

from tests.contract.api import Sdk, expect_refusals, statuses, until, until_status, until_visited, values_of

LONG = {"step_seconds": 30}
THEN_LONG = {"step_seconds": 0.3}


async def running(sdk: Sdk, **options: Any) -> tuple[str, str]:
    """A thread and its long run, which has begun."""
    thread_id = (await sdk.threads.create())["thread_id"]
    run = await sdk.runs.create(thread_id, "slow", input=LONG, **options)
    await until_status(sdk, thread_id, run["run_id"], "running")
    return thread_id, run["run_id"]


async def test_interrupt_keeps_what_is_done(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    run = await sdk.runs.create(thread_id, "slow", input={"step_seconds": 1.5})
    await until_visited(sdk, thread_id, "one")
    await sdk.runs.cancel(thread_id, run["run_id"], wait=True)
    assert (await sdk.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
    state = await sdk.threads.get_state(thread_id)
    assert (state["values"]["visited"], state["next"]) == (["one"], ["two"])

    async def settled() -> bool:
        return bool((await sdk.threads.get(thread_id))["status"] != "busy")

    await until(settled, "the thread is free again")
    result = await sdk.runs.wait(thread_id, "slow", input=None, durability="sync")
    assert result["visited"] == ["one", "two", "three"]


async def test_rollback_undoes_it_all(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    await sdk.runs.wait(thread_id, "slow", input={"step_seconds": 0})
    before = await sdk.threads.get_state(thread_id)
    run = await sdk.runs.create(thread_id, "slow", input=LONG)
    await until_status(sdk, thread_id, run["run_id"], "running")
    await sdk.runs.cancel(thread_id, run["run_id"], wait=True, action="rollback")

    async def gone() -> bool:
        return run["run_id"] not in await statuses(sdk, thread_id)

    await until(gone, "the run is gone")
    with pytest.raises(NotFoundError):
        await sdk.runs.get(thread_id, run["run_id"])
    after = await sdk.threads.get_state(thread_id)
    assert (after["checkpoint_id"], after["values"]) == (before["checkpoint_id"], before["values"])
    assert (await sdk.threads.get(thread_id))["status"] == "idle"


async def test_a_run_that_has_not_begun(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    kept, undone = [
        (await sdk.runs.create(thread_id, "echo", input={"text": "x"}, after_seconds=60))["run_id"]
        for _ in range(2)
    ]
    await sdk.runs.cancel(thread_id, kept)
    await until_status(sdk, thread_id, kept, "interrupted")
    await sdk.runs.cancel(thread_id, undone, action="rollback")

    async def gone() -> bool:
        return undone not in await statuses(sdk, thread_id)

    await until(gone, "the pending run is gone")
    await sdk.runs.wait(thread_id, "echo", input={"text": "y"})
    assert (await values_of(sdk, thread_id))["heard"] == ["y"]


async def test_many_by_their_ids(sdk: Sdk) -> None:
    thread_id, first = await running(sdk)
    second = (await sdk.runs.create(thread_id, "slow", input=LONG))["run_id"]
    other_thread, other = await running(sdk)
    await sdk.runs.cancel_many(thread_id=thread_id, run_ids=[first, second])
    for run_id in (first, second):
        await until_status(sdk, thread_id, run_id, "interrupted")
    assert (await sdk.runs.get(other_thread, other))["status"] == "running"
    await sdk.runs.cancel(other_thread, other, wait=True)


async def test_all_by_their_status(sdk: Sdk) -> None:
    begun = await asyncio.gather(running(sdk), running(sdk))
    waiting = (await sdk.runs.create(begun[0][0], "slow", input=LONG))["run_id"]
    await sdk.runs.cancel_many(status="all")
    for thread_id, run_id in (*begun, (begun[0][0], waiting)):
        await until_status(sdk, thread_id, run_id, "interrupted")


async def test_because_the_caller_has_gone(sdk: Sdk, http: httpx.AsyncClient, server_url: str) -> None:
    streamed, waited, joined, left = [(await sdk.threads.create())["thread_id"] for _ in range(4)]
    body = {"assistant_id": "slow", "input": LONG}
    leaving = {**body, "on_disconnect": "cancel"}
    run = await sdk.runs.create(joined, "slow", input=LONG)

    async def hang_up(method: str, path: str, **sent: Any) -> None:
        """Send a request, see the answer begin, and close the connection."""
        async with (
            httpx.AsyncClient(base_url=server_url, timeout=60) as caller,
            caller.stream(method, path, **sent) as answer,
        ):
            assert answer.status_code == 200
            thread_id = path.split("/")[2]
            (run_id,) = await statuses(sdk, thread_id)
            await until_status(sdk, thread_id, run_id, "running")

    await asyncio.gather(
        hang_up("POST", f"/threads/{streamed}/runs/stream", json=leaving),
        hang_up("POST", f"/threads/{waited}/runs/wait", json=leaving),
        hang_up("GET", f"/threads/{joined}/runs/{run['run_id']}/stream?cancel_on_disconnect=true"),
        hang_up("POST", f"/threads/{left}/runs/stream", json={**body, "on_disconnect": "continue"}),
    )
    for thread_id in (streamed, waited, joined):
        (run_id,) = await statuses(sdk, thread_id)
        await until_status(sdk, thread_id, run_id, "interrupted")
    assert list((await statuses(sdk, left)).values()) == ["running"]
    await sdk.runs.cancel(left, next(iter(await statuses(sdk, left))), wait=True)


async def test_a_cancel_frees_the_place(sdk: Sdk) -> None:
    thread_id, run_id = await running(sdk)
    following = await sdk.runs.create(thread_id, "echo", input={"text": "next"})
    await sdk.runs.cancel(thread_id, run_id)
    await until_status(sdk, thread_id, following["run_id"], "success")


async def test_bad_input(sdk: Sdk, http: httpx.AsyncClient) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    await sdk.runs.wait(thread_id, "echo", input={"text": "a"})
    (done,) = await statuses(sdk, thread_id)
    absent = str(uuid.uuid4())
    await expect_refusals(
        http,
        [
            ("POST", f"/threads/{thread_id}/runs/{absent}/cancel", None, 404, "no runs found"),
            ("POST", f"/threads/{thread_id}/runs/{done}/cancel", None, 404, "no matching runs"),
            ("POST", f"/threads/{absent}/runs/{done}/cancel", None, 404, "no runs found"),
            ("POST", f"/threads/{thread_id}/runs/nonsense/cancel", None, 422, "UUID"),
            ("POST", "/runs/cancel", {"thread_id": thread_id, "run_ids": [absent]}, 404, "no runs found"),
            ("POST", "/runs/cancel", {"thread_id": thread_id, "run_ids": ["x"]}, 422, "UUID"),
            ("POST", "/runs/cancel", {"status": "done"}, 422, "status"),
            (
                "POST",
                "/runs/cancel",
                {"status": "all", "thread_id": thread_id, "run_ids": [absent]},
                422,
                "status",
            ),
        ],
    )
