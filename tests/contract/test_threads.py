"""The report on a thread says what is the matter with it."""

from __future__ import annotations

import uuid

import pytest

from sdk_client import ApprovalNeededError, Client, NotFoundError, RunFailedError, thread_id_for
from tests.contract.api import until


async def test_a_finished_thread(client: Client) -> None:
    result = await client.run("echo", {"text": "hello"})
    report = await client.threads.inspect(result.thread_id)
    assert (report.status, report.graph_id, report.next, report.waiting) == ("idle", "echo", (), ())
    assert report.value_bytes == {"text": 7, "heard": 9}
    assert report.checkpoint_id
    assert [(run.run_id, run.status, run.request_id) for run in report.runs] == [
        (result.run_id, "success", result.request_id)
    ]
    assert "Nothing is the matter" in report.diagnosis


async def test_a_failed_thread(client: Client) -> None:
    conversation = str(uuid.uuid4())
    with pytest.raises(RunFailedError):
        await client.run("failing", {"reason": "no paper"}, conversation_id=conversation)
    report = await client.threads.inspect(thread_id_for(conversation))
    assert report.error == "ValueError: no paper"
    assert report.next == ("fail",)
    assert "failed in fail: ValueError: no paper" in report.diagnosis


async def test_a_thread_that_waits_for_a_human(client: Client) -> None:
    with pytest.raises(ApprovalNeededError) as caught:
        await client.run("gated", {"text": "x"})
    assert caught.value.thread_id
    report = await client.threads.inspect(caught.value.thread_id)
    assert report.waiting == caught.value.approvals
    assert "Waits for a human" in report.diagnosis


async def test_a_busy_thread_and_then_a_cancelled_one(client: Client) -> None:
    handle = await client.submit("slow", {"step_seconds": 30})
    report = await client.threads.inspect(handle.thread_id)
    assert handle.run_id in report.diagnosis
    await client.cancel(handle)

    async def told() -> bool:
        return "cancelled" in (await client.threads.inspect(handle.thread_id)).diagnosis

    await until(told, "the report says so")


async def test_an_unknown_thread(client: Client) -> None:
    with pytest.raises(NotFoundError):
        await client.threads.inspect(str(uuid.uuid4()))
