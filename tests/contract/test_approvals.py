"""Every pause is decided on exactly once."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from sdk_client import (
    AlreadyDecidedError,
    Approval,
    ApprovalNeededError,
    Client,
    Decision,
    DecisionType,
    NotFoundError,
    RefusedError,
    RetryPolicy,
    RunCancelledError,
)
from sdk_client.identity import claim_id_for
from tests.contract.api import Sdk
from tests.contract.conftest import POLICY


async def paused(client: Client, graph: str, **values: Any) -> Approval:
    with pytest.raises(ApprovalNeededError) as caught:
        await client.run(graph, {"text": "hello", **values})
    return caught.value.approvals[0]


async def values_after(client: Client, decision: Decision) -> dict[str, Any]:
    assert decision.run is not None
    return (await client.join(decision.run)).values


async def test_each_decision_reaches_the_graph_in_the_inbox_form(client: Client) -> None:
    async def answer(decision: DecisionType, value: Any) -> Any:
        approval = await paused(client, "inbox")
        decided = await client.approvals.decide(approval, decision, value, decided_by="ann")
        return (await values_after(client, decided))["answers"]

    answers = await asyncio.gather(
        answer("approve", None),
        answer("edit", {"text": "hi"}),
        answer("respond", "shorter"),
        answer("reject", None),
    )
    assert list(answers) == [
        [{"type": "accept", "args": None}],
        [{"type": "edit", "args": {"action": "send", "args": {"text": "hi"}}}],
        [{"type": "response", "args": "shorter"}],
        [{"type": "ignore", "args": None}],
    ]


async def test_a_decision_the_payload_does_not_allow_is_refused(client: Client) -> None:
    approval, question = await asyncio.gather(
        paused(client, "inbox", allow_ignore=False), paused(client, "asks_freely")
    )
    with pytest.raises(RefusedError, match="does not allow 'reject'"):
        await client.approvals.reject(approval, decided_by="ann")
    with pytest.raises(RefusedError, match="only respond"):
        await client.approvals.approve(question, decided_by="ann")
    values = await values_after(client, await client.approvals.respond(question, 3, decided_by="ann"))
    assert values["answers"] == [3]


async def test_many_deciders_at_once_and_one_succeeds(server_url: str) -> None:
    async with Client(server_url, retry=POLICY) as one, Client(server_url, retry=POLICY) as other:
        approval = await paused(one, "inbox")
        outcomes = await asyncio.gather(
            *(
                client.approvals.edit(approval, {"text": name}, decided_by=name)
                for client, name in zip((one, other) * 6, map(str, range(12)), strict=True)
            ),
            return_exceptions=True,
        )
        winners = [outcome for outcome in outcomes if isinstance(outcome, Decision)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, AlreadyDecidedError)]
        assert (len(winners), len(losers)) == (1, 11)
        assert {loser.decided_by for loser in losers} == {winners[0].decided_by}
        values = await values_after(one, winners[0])
        assert values["sent"] == ["hello"]  # the node after the pause ran once
        report = await one.threads.inspect(approval.thread_id)
        assert len(report.runs) == 2


async def test_a_second_approval_is_refused_by_approval_and_by_thread(client: Client) -> None:
    approval = await paused(client, "inbox")
    first = await client.approvals.approve(approval.thread_id, decided_by="ann")
    await values_after(client, first)
    for target in (approval, approval.thread_id):
        with pytest.raises(AlreadyDecidedError) as caught:
            await client.approvals.approve(target, decided_by="bob")
        assert caught.value.decided_by == "ann"
    again = await client.approvals.approve(approval, decided_by="ann")
    assert again == first  # the same decision once more is the same run


async def test_a_decider_that_died_after_its_claim_is_finished_by_the_next(server_url: str) -> None:
    brief = RetryPolicy(attempts=3, deadline_seconds=2.0, base_delay_seconds=0.05, max_delay_seconds=0.1)
    async with Client(server_url, retry=brief) as client:
        approval = await paused(client, "inbox")
        client.approvals._submission.grace_seconds = 1.5
        record = {
            "kind": "decision",
            "thread_id": approval.thread_id,
            "pause_id": approval.pause_id,
            "decision": "accept",  # as releases from before wrote it
            "value": None,
            "decided_by": "ann",
            "decided_at": "2026-01-01T00:00:00+00:00",
        }
        await client.approvals._claims.take(claim_id_for(approval.thread_id, approval.pause_id), record)
        outcomes = await asyncio.gather(
            *(client.approvals.reject(approval, decided_by=name) for name in ("bob", "cid", "dan")),
            return_exceptions=True,
        )
        assert all(isinstance(outcome, AlreadyDecidedError) for outcome in outcomes), outcomes
        again = await client.approvals.approve(approval, decided_by="ann")
        values = await values_after(client, again)
        assert values["answers"] == [{"type": "accept", "args": None}]
        assert len((await client.threads.inspect(approval.thread_id)).runs) == 2


class ClosedGate(httpx.AsyncHTTPTransport):
    """What refuses to create runs, and lets the caller wait for it."""

    def __init__(self, status_code: int) -> None:
        """Refuse with this status, once told to."""
        super().__init__()
        self.asked, self.answer = asyncio.Event(), asyncio.Event()
        self._status_code = status_code

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Refuse a new run, and pass on all else."""
        if not (request.method == "POST" and request.url.path.endswith("/runs")):
            return await super().handle_async_request(request)
        self.asked.set()
        await self.answer.wait()
        return httpx.Response(self._status_code, text="no", request=request)


@pytest.mark.parametrize("status_code", [403, 413])
async def test_who_waited_for_a_refused_decision_decides_as_they_wanted(
    client: Client, server_url: str, status_code: int
) -> None:
    approval = await paused(client, "inbox")
    gate = ClosedGate(status_code)
    async with (
        httpx.AsyncClient(base_url=server_url, transport=gate) as http,
        Client(server_url, retry=POLICY, http_client=http) as refused,
    ):
        first = asyncio.create_task(refused.approvals.respond(approval, "mine", decided_by="ann"))
        await gate.asked.wait()
        second = asyncio.create_task(client.approvals.approve(approval, decided_by="bob"))
        await asyncio.sleep(0.7)  # it found ann's claim, and waits for her run
        assert not second.done()
        gate.answer.set()
        with pytest.raises(RefusedError):
            await first
        assert (await values_after(client, await second))["answers"] == [{"type": "accept", "args": None}]
        assert len((await client.threads.inspect(approval.thread_id)).runs) == 2


async def test_two_questions_of_one_node_are_two_pauses(client: Client) -> None:
    first = await paused(client, "asks_twice")
    decided = await client.approvals.approve(first, decided_by="ann")
    assert decided.run is not None
    with pytest.raises(ApprovalNeededError) as caught:
        await client.join(decided.run)
    (second,) = caught.value.approvals
    assert (first.action, second.action) == ("first", "second")
    assert first.pause_id != second.pause_id
    with pytest.raises(AlreadyDecidedError):  # a late decision on the first must not answer the second
        await client.approvals.reject(first, decided_by="bob")
    values = await values_after(client, await client.approvals.approve(second, decided_by="bob"))
    assert len(values["answers"]) == 2


async def test_two_pauses_at_once_are_decided_one_by_one(client: Client) -> None:
    with pytest.raises(ApprovalNeededError) as caught:
        await client.run("two_at_once", {"text": "hello"})
    left, right = sorted(caught.value.approvals, key=lambda approval: approval.action)
    with pytest.raises(RefusedError, match="2 decisions"):
        await client.approvals.approve(left.thread_id, decided_by="ann")
    decided = await client.approvals.approve(left, decided_by="ann")
    assert decided.run is not None
    with pytest.raises(ApprovalNeededError) as waiting:
        await client.join(decided.run)
    assert [approval.action for approval in waiting.value.approvals] == ["right"]
    values = await values_after(client, await client.approvals.reject(right, decided_by="bob"))
    assert sorted(answer["type"] for answer in values["answers"]) == ["accept", "ignore"]
    assert values["sent"] == ["hello"]


async def test_a_static_pause_can_be_accepted_and_edited_once(client: Client) -> None:
    approval, other = await asyncio.gather(paused(client, "gated", text=" hello "), paused(client, "gated"))
    assert (approval.kind, approval.node, approval.args["text"]) == ("static", "send", "hello")
    with pytest.raises(RefusedError, match="does not allow 'respond'"):
        await client.approvals.respond(approval, "?", decided_by="ann")
    with pytest.raises(RefusedError, match="no key txt; there are: allow_ignore"):  # it would go on unedited
        await client.approvals.edit(approval, {"txt": "hi"}, decided_by="ann")
    edited = await client.approvals.edit(approval, {"text": "hi"}, decided_by="ann")
    assert (await values_after(client, edited))["sent"] == ["hi"]
    with pytest.raises(AlreadyDecidedError):
        await client.approvals.approve(approval, decided_by="bob")
    accepted = await client.approvals.approve(other.thread_id, decided_by="ann")
    assert (await values_after(client, accepted))["sent"] == ["hello"]


async def test_a_rejected_static_pause_ends_the_thread_without_running_it(client: Client) -> None:
    approval = await paused(client, "gated")
    rejected = await client.approvals.reject(approval, decided_by="ann")
    assert rejected.run is None
    assert await client.approvals.reject(approval, decided_by="ann") == rejected
    report = await client.threads.inspect(approval.thread_id)
    assert (report.status, report.next, len(report.runs)) == ("idle", (), 1)
    with pytest.raises(AlreadyDecidedError):
        await client.approvals.approve(approval.thread_id, decided_by="bob")


async def test_the_list_shows_what_waits_and_nothing_else(client: Client) -> None:
    inbox, gated = await asyncio.gather(paused(client, "inbox"), paused(client, "gated"))
    cancelled = await client.submit("slow", {"step_seconds": 30})
    async with aclosing(client.watch(cancelled)) as items:
        while getattr(await anext(items), "event", None) != "values":
            pass  # until the first checkpoint is written, so that the thread has nodes left to run
    await client.cancel(cancelled)
    with pytest.raises(RunCancelledError):
        await client.join(cancelled)
    waiting = await client.approvals.list_waiting(limit=1000)
    assert {inbox.thread_id, gated.thread_id} <= {approval.thread_id for approval in waiting}
    assert cancelled.thread_id not in {approval.thread_id for approval in waiting}
    assert inbox in waiting
    only = await client.approvals.list_waiting("gated", limit=1000)
    assert {approval.graph_id for approval in only} == {"gated"}
    with pytest.raises(NotFoundError, match=r"'gatde' not found.*'gated'"):
        await client.approvals.list_waiting("gatde")
    with pytest.raises(NotFoundError):
        await client.approvals.list_waiting(cancelled.thread_id)
    assert await client.approvals.list_waiting("slow") == []
    await client.approvals.approve(inbox, decided_by="ann")
    assert inbox not in await client.approvals.list_waiting(limit=1000)


async def test_a_pause_that_the_conversation_has_left_behind_cannot_be_decided_on(client: Client) -> None:
    conversation = str(uuid.uuid4())
    pauses: list[Approval] = []
    for _ in range(2):
        with pytest.raises(ApprovalNeededError) as caught:
            await client.run("gated", {"text": "x"}, conversation_id=conversation)
        pauses += caught.value.approvals
    with pytest.raises(RefusedError, match="moved on"):
        await client.approvals.approve(pauses[0], decided_by="ann")
    assert await client.approvals.waiting_on(pauses[1].thread_id) == (pauses[1],)


async def test_a_run_cancelled_before_it_was_due_hides_no_pause(client: Client, sdk: Sdk) -> None:
    pause = await paused(client, "inbox")
    late = await sdk.runs.create(pause.thread_id, "inbox", input={"text": "later"}, after_seconds=600)
    await sdk.runs.cancel(pause.thread_id, late["run_id"], wait=True)
    assert await client.approvals.waiting_on(pause.thread_id) == (pause,)
    done = await client.approvals.approve(pause.thread_id, decided_by="ann")
    assert done.run is not None
    await client.join(done.run)


async def test_a_thread_that_waits_for_nobody_cannot_be_decided_on(client: Client) -> None:
    result = await client.run("echo", {"text": "x"})
    with pytest.raises(RefusedError, match="not waiting"):
        await client.approvals.approve(result.thread_id, decided_by="ann")
    with pytest.raises(RefusedError):
        await client.approvals.get(str(uuid.uuid4()))
