"""Submitting, joining and cancelling runs on a real server."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from sdk_client import (
    ApprovalNeededError,
    Client,
    DeadlineExceededError,
    NotFoundError,
    RefusedError,
    RunCancelledError,
    RunFailedError,
    ThreadBusyError,
    thread_id_for,
)
from tests.contract.conftest import POLICY
from tests.contract.proxy import cutting_proxy


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4()}"


async def test_run_returns_the_graphs_values(client: Client) -> None:
    result = await client.run("echo", {"text": "hello"})
    assert result.status == "success"
    assert result.values == {"text": "hello", "heard": ["hello"]}
    assert result.request_id


async def test_a_conversation_is_one_thread(client: Client) -> None:
    conversation = unique("ticket")
    first = await client.run("echo", {"text": "one"}, conversation_id=conversation)
    second = await client.run("echo", {"text": "two"}, conversation_id=conversation)
    assert first.thread_id == second.thread_id == thread_id_for(conversation)
    assert second.values["heard"] == ["one", "two"]


async def test_join_returns_the_runs_own_values_after_the_thread_moved_on(client: Client) -> None:
    conversation = unique("ticket")
    handles = [await client.submit("echo", {"text": t}, conversation_id=conversation) for t in ("one", "two")]
    results = [await client.join(handle) for handle in reversed(handles)]
    assert [result.values["heard"] for result in results] == [["one", "two"], ["one"]]


async def test_the_same_request_id_is_the_same_run(client: Client) -> None:
    request_id, conversation = unique("order"), unique("ticket")
    handles = [
        await client.submit("echo", {"text": "x"}, request_id=request_id, conversation_id=conversation)
        for _ in range(2)
    ]
    assert handles[0] == handles[1]
    await client.join(handles[0])
    assert (await client.threads.inspect(handles[0].thread_id)).runs[0].request_id == request_id


async def test_concurrent_submits_of_one_request_id_make_one_run(server_url: str) -> None:
    request_id = unique("order")
    async with Client(server_url, retry=POLICY) as one, Client(server_url, retry=POLICY) as other:
        handles = await asyncio.gather(
            *(client.submit("echo", {"text": "x"}, request_id=request_id) for client in (one, other) * 8)
        )
        assert len({handle.run_id for handle in handles}) == 1
        assert len((await one.threads.inspect(handles[0].thread_id)).runs) == 1


async def test_a_request_id_cannot_stand_for_another_run(client: Client) -> None:
    request_id = unique("order")
    await client.run("echo", {"text": "x"}, request_id=request_id)
    with pytest.raises(RefusedError, match="taken by a run of another assistant"):
        await client.submit("slow", {}, request_id=request_id)
    with pytest.raises(RefusedError, match="taken by a run on another thread"):
        await client.submit("echo", {"text": "x"}, request_id=request_id, conversation_id=unique("t"))


async def test_a_refused_request_id_can_be_used_again_at_once(client: Client) -> None:
    request_id = unique("order")
    with pytest.raises(RefusedError, match="Invalid assistant"):
        await client.submit("no such graph", {}, request_id=request_id)
    result = await client.run("echo", {"text": "x"}, request_id=request_id)
    assert result.request_id == request_id


async def test_a_failed_run_raises_what_the_graph_raised(client: Client) -> None:
    with pytest.raises(RunFailedError) as caught:
        await client.run("failing", {"reason": "no paper"})
    assert (caught.value.error_type, caught.value.error_message) == ("ValueError", "no paper")
    assert caught.value.status == "error"
    assert caught.value.run_id
    assert caught.value.run_id in str(caught.value)


async def test_a_failed_run_keeps_its_error_after_the_thread_moved_on(client: Client) -> None:
    conversation = unique("ticket")
    first = await client.submit("failing", {"reason": "first"}, conversation_id=conversation)
    second = await client.submit("failing", {"reason": "second"}, conversation_id=conversation)
    for handle, reason in ((second, "second"), (first, "first")):
        with pytest.raises(RunFailedError) as caught:
            await client.join(handle)
        assert caught.value.error_message == reason


async def test_a_cancelled_run_is_not_an_answer(client: Client) -> None:
    handle = await client.submit("slow", {"step_seconds": 30})
    await client.cancel(handle)
    with pytest.raises(RunCancelledError):
        await client.join(handle)
    await client.cancel(handle)  # a second cancel is not an error


async def test_a_paused_run_is_not_an_answer(client: Client) -> None:
    with pytest.raises(ApprovalNeededError) as caught:
        await client.run("inbox", {"text": "refund"})
    (approval,) = caught.value.approvals
    assert (approval.action, approval.args, approval.kind) == ("send", {"text": "refund"}, "inbox")
    assert caught.value.values["text"] == "refund"


async def test_join_gives_up_waiting_but_not_the_run(client: Client) -> None:
    handle = await client.submit("slow", {"step_seconds": 0.3})
    with pytest.raises(DeadlineExceededError) as caught:
        await client.join(handle, deadline_seconds=0.2)
    assert caught.value.run_id == handle.run_id
    assert (await client.join(handle)).values["visited"] == ["one", "two", "three"]


async def test_reject_on_a_busy_thread_is_an_error_of_its_own(client: Client) -> None:
    conversation = unique("ticket")
    holder = await client.submit("slow", {"step_seconds": 30}, conversation_id=conversation)
    with pytest.raises(ThreadBusyError):
        await client.submit("slow", {}, conversation_id=conversation, multitask_strategy="reject")
    await client.cancel(holder)


async def test_an_unknown_run_is_not_found(client: Client) -> None:
    handle = await client.submit("echo", {"text": "x"})
    await client.join(handle)
    with pytest.raises(NotFoundError):
        await client.join(type(handle)(str(uuid.uuid4()), handle.thread_id, None, handle.assistant_id))


async def test_join_survives_cut_connections(server_url: str) -> None:
    async with cutting_proxy(int(server_url.rsplit(":", 1)[1])) as proxy:
        proxy.only_paths_with = b"/join"
        proxy.cut_after_bytes = [1, 90, 200]
        async with Client(f"http://127.0.0.1:{proxy.port}", retry=POLICY) as client:
            result = await client.run("slow", {"step_seconds": 0.5})
    assert result.values["visited"] == ["one", "two", "three"]
    assert proxy.cuts == 3


async def test_a_lost_answer_to_a_create_does_not_double_the_run(server_url: str) -> None:
    async with cutting_proxy(int(server_url.rsplit(":", 1)[1])) as proxy:
        proxy.only_paths_with = b"/runs HTTP"
        proxy.cut_after_bytes = [1]
        async with Client(f"http://127.0.0.1:{proxy.port}", retry=POLICY) as client:
            result = await client.run("echo", {"text": "once"})
            report = await client.threads.inspect(result.thread_id)
    assert proxy.cuts == 1
    assert [run.run_id for run in report.runs] == [result.run_id]
