"""A second run on a busy thread: the four strategies, and many callers at once."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from langgraph_sdk.errors import ConflictError

from tests.contract.api import Sdk, statuses, thread_after, until, until_status, until_visited, values_of


async def test_enqueue_runs_them_in_their_order(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    first = await sdk.runs.create(thread_id, "slow", input={"step_seconds": 0.1})
    others = [
        (await sdk.runs.create(thread_id, "echo", input={"text": str(n)}, multitask_strategy="enqueue"))[
            "run_id"
        ]
        for n in range(5)
    ]
    await until_status(sdk, thread_id, others[-1], "success")
    assert (await values_of(sdk, thread_id))["heard"] == ["0", "1", "2", "3", "4"]
    assert set((await statuses(sdk, thread_id)).values()) == {"success"}
    assert (await sdk.runs.get(thread_id, first["run_id"]))["status"] == "success"


async def test_enqueue_from_many_callers_loses_and_doubles_nothing(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    await asyncio.gather(*(sdk.runs.create(thread_id, "echo", input={"text": str(n)}) for n in range(8)))

    async def done() -> bool:
        return set((await statuses(sdk, thread_id)).values()) == {"success"}

    await until(done, "all runs have ended well")
    assert sorted((await values_of(sdk, thread_id))["heard"]) == [str(n) for n in range(8)]
    assert (await sdk.threads.get(thread_id))["status"] == "idle"


async def test_reject(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    run = await sdk.runs.create(thread_id, "slow", input={"step_seconds": 30})
    with pytest.raises(ConflictError):
        await sdk.runs.create(thread_id, "echo", input={"text": "x"}, multitask_strategy="reject")
    assert list(await statuses(sdk, thread_id)) == [run["run_id"]]
    await until_status(sdk, thread_id, run["run_id"], "running")
    await sdk.runs.cancel(thread_id, run["run_id"], wait=True)
    await sdk.runs.wait(thread_id, "echo", input={"text": "y"}, multitask_strategy="reject")


async def test_reject_lets_one_of_many_through(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    answers = await asyncio.gather(
        *(
            sdk.runs.create(thread_id, "slow", input={"step_seconds": 0.2}, multitask_strategy="reject")
            for _ in range(10)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, ConflictError) for answer in answers) == 9
    assert len(await statuses(sdk, thread_id)) == 1


async def test_interrupt_stops_the_first_and_keeps_what_it_did(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    first = await sdk.runs.create(thread_id, "slow", input={"step_seconds": 1})
    await until_visited(sdk, thread_id, "one")
    result = await sdk.runs.wait(thread_id, "slow", input={"step_seconds": 0}, multitask_strategy="interrupt")
    assert result["visited"] == ["one", "one", "two", "three"]
    assert (await sdk.runs.get(thread_id, first["run_id"]))["status"] == "interrupted"
    assert (await sdk.threads.get(thread_id))["status"] == "idle"


async def test_rollback_removes_the_first(sdk: Sdk) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    first = await sdk.runs.create(thread_id, "slow", input={"step_seconds": 1})
    await until_visited(sdk, thread_id, "one")
    result = await sdk.runs.wait(thread_id, "slow", input={"step_seconds": 0}, multitask_strategy="rollback")
    assert result["visited"] == ["one", "two", "three"]

    async def gone() -> bool:
        return first["run_id"] not in await statuses(sdk, thread_id)

    await until(gone, "the first run is gone")


async def test_resumes_at_once_answer_once(sdk: Sdk) -> None:
    thread_id = await thread_after(sdk, "inbox", {"text": "letter"})
    ((pause,),) = (await sdk.threads.get(thread_id))["interrupts"].values()
    answer = {pause["id"]: [{"type": "accept", "args": None}]}
    runs = await asyncio.gather(
        *(sdk.runs.create(thread_id, "inbox", command={"resume": answer}) for _ in range(4))
    )
    for run in runs:
        assert await until_status(sdk, thread_id, run["run_id"], "success", "error")
    values = await values_of(sdk, thread_id)
    assert values["sent"] == ["letter"]
    assert values["answers"] == [{"type": "accept", "args": None}]


async def test_resumes_at_once_with_reject(sdk: Sdk) -> None:
    thread_id = await thread_after(sdk, "asks_freely", {"text": str(uuid.uuid4())})
    answers: list[Any] = await asyncio.gather(
        *(
            sdk.runs.create(thread_id, "asks_freely", command={"resume": n}, multitask_strategy="reject")
            for n in range(5)
        ),
        return_exceptions=True,
    )
    accepted = {n: answer["run_id"] for n, answer in enumerate(answers) if not isinstance(answer, Exception)}
    for run_id in accepted.values():  # one that came after the first had ended finds nothing to answer
        await until_status(sdk, thread_id, run_id, "success")
    (answer,) = (await values_of(sdk, thread_id))["answers"]
    assert answer in accepted
