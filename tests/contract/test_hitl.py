"""LangChain's own review of tool calls, unchanged: decided by our client and by what interfaces send."""

from __future__ import annotations

import asyncio
import json
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
    RefusedError,
    RetryPolicy,
    RunHandle,
)
from sdk_client.cli.main import main
from sdk_client.identity import claim_id_for
from tests.conftest import JavaScript
from tests.contract.api import Sdk
from tests.contract.conftest import POLICY
from tests.contract.interfaces import INTERFACES, hitl

REFUND = ("refund", {"order": 7, "amount": 2.5})
CLOSE = ("close_account", {"name": "kim"})


async def paused(client: Client, *calls: Any, agent: str = "reviewed") -> tuple[Approval, ...]:
    said = {"messages": [{"role": "user", "content": json.dumps(calls)}]}
    with pytest.raises(ApprovalNeededError) as caught:
        await client.run(agent, said)
    return caught.value.approvals


async def results(client: Client, decision: Decision) -> list[str]:
    """What the model was told of its calls."""
    assert decision.run is not None
    values = (await client.join(decision.run)).values
    said: list[str] = json.loads(values["messages"][-1]["content"])
    return said


async def test_each_decision_reaches_the_middleware(client: Client) -> None:
    async def answer(decision: DecisionType, value: Any = None) -> str:
        (pause,) = await paused(client, REFUND)
        assert (pause.kind, pause.action, pause.args) == ("hitl", *REFUND)
        assert pause.allowed == {"approve", "edit", "reject", "respond"}
        (said,) = await results(client, await client.approvals.decide(pause, decision, value, decided_by="a"))
        return said

    approved, edited, rejected, explained, answered = await asyncio.gather(
        answer("approve"),
        answer("edit", {"amount": 9.5}),  # the order stays as proposed
        answer("reject"),
        answer("reject", "too much"),
        answer("respond", "paid by hand"),
    )
    assert approved == "refunded 2.5 for 7"
    assert edited.endswith("refunded 9.5 for 7")
    assert "rejected" in rejected
    assert "too much" in explained
    assert answered == "paid by hand"


async def test_a_wrong_answer_is_refused_and_the_pause_waits_for_a_right_one(client: Client) -> None:
    (pause,) = await paused(client, REFUND, CLOSE)
    wrong: list[tuple[Any, Any, int | None, str]] = [
        ("respond", "fine", None, "does not allow 'respond' of 'close_account', only approve, reject"),
        ("respond", "fine", 1, "does not allow 'respond'"),
        ("respond", " ", 0, "a text that is not empty"),
        ("respond", {"decisions": [{"type": "approve"}]}, 0, "a text that is not empty"),
        ("reject", 3, None, "a text that is not empty"),
        ("approve", "yes", None, "takes no value"),
        ("edit", {"amount": 1.0}, None, "does not allow 'edit' of 'close_account'"),
        ("edit", {"amont": 1.0}, 0, "'refund' has no argument amont; there are: amount, order"),
        ("edit", {}, 0, "an object with the arguments"),
        ("accept", None, None, "does not allow 'accept'"),
        ("approve", None, 2, "There is no action 3; the pause has 2"),
    ]
    for decision, value, action, reason in wrong:
        with pytest.raises(RefusedError, match=reason):
            await client.approvals.decide(pause, decision, value, decided_by="ann", action=action)
    done = await client.approvals.approve(pause.thread_id, decided_by="bob")
    assert await results(client, done) == ["refunded 2.5 for 7", "closed kim"]


async def test_two_actions_are_decided_together_or_by_two_people(client: Client) -> None:
    (pause,) = await paused(client, REFUND, CLOSE)
    assert [(action.name, action.args) for action in pause.actions] == [REFUND, CLOSE]
    assert [len(action.allowed) for action in pause.actions] == [4, 2]
    first = await client.approvals.reject(pause, decided_by="ann", message="keep it", action=1)
    assert (first.run, first.open_actions) == (None, (0,))
    assert await client.approvals.reject(pause, decided_by="ann", message="keep it", action=1) == first
    with pytest.raises(AlreadyDecidedError, match="ann decided 'reject' on action 2"):
        await client.approvals.approve(pause, decided_by="bob", action=1)
    assert [one and one.decided_by for one in await client.approvals.decided(pause)] == [None, "ann"]
    assert await client.approvals.waiting_on(pause.thread_id) == (pause,)
    last = await client.approvals.edit(pause, {"amount": 1.5}, decided_by="bob", action=0)
    refunded, kept = await results(client, last)
    assert refunded.endswith("refunded 1.5 for 7")
    assert "keep it" in kept
    again = await client.approvals.reject(pause, decided_by="ann", message="keep it", action=1)
    assert again.run == last.run
    with pytest.raises(AlreadyDecidedError, match="bob decided 'edit' on action 1"):
        await client.approvals.approve(pause, decided_by="ann", action=0)
    assert len((await client.threads.inspect(pause.thread_id)).runs) == 2


async def test_of_many_who_decide_on_several_actions_one_succeeds(server_url: str) -> None:
    async with Client(server_url, retry=POLICY) as one, Client(server_url, retry=POLICY) as other:
        (pause,) = await paused(one, REFUND, CLOSE)
        names = [f"{client}" for client in range(12)]
        outcomes = await asyncio.gather(
            *(
                client.approvals.reject(pause, decided_by=name, message=name)
                for client, name in zip((one, other) * 6, names, strict=True)
            ),
            return_exceptions=True,
        )
        winners = [outcome for outcome in outcomes if isinstance(outcome, Decision)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, AlreadyDecidedError)]
        assert (len(winners), len(losers)) == (1, 11), outcomes
        told = await results(one, winners[0])
        assert all(text.endswith(f"reason: {winners[0].decided_by}") for text in told)
        assert len((await one.threads.inspect(pause.thread_id)).runs) == 2


async def test_actions_decided_at_the_same_instant_set_the_graph_going_once(server_url: str) -> None:
    async with Client(server_url, retry=POLICY) as one, Client(server_url, retry=POLICY) as other:
        (pause,) = await paused(one, REFUND, CLOSE)
        both = await asyncio.gather(
            one.approvals.approve(pause, decided_by="ann", action=0),
            other.approvals.reject(pause, decided_by="bob", action=1),
        )
        (run,) = {done.run for done in both if done.run}  # each may have seen the other's decision
        refunded, kept = await results(one, next(done for done in both if done.run == run))
        assert (refunded, "rejected" in kept) == ("refunded 2.5 for 7", True)


async def test_decisions_of_a_decider_who_died_are_carried_out_by_the_next(server_url: str) -> None:
    brief = RetryPolicy(attempts=3, deadline_seconds=2.0, base_delay_seconds=0.05, max_delay_seconds=0.1)
    async with Client(server_url, retry=brief) as client:
        (pause,) = await paused(client, REFUND, CLOSE)
        record = {"kind": "decision", "thread_id": pause.thread_id, "pause_id": pause.pause_id, "value": None}
        said = {"decision": "approve", "decided_by": "ann", "decided_at": "2026-01-01T00:00:00+00:00"}
        for index in (0, 1):
            claim_id = claim_id_for(pause.thread_id, f"{pause.pause_id}#{index}")
            await client.approvals._claims.take(claim_id, {**record, **said})
        with pytest.raises(AlreadyDecidedError) as caught:
            await client.approvals.reject(pause, decided_by="bob")
        assert (caught.value.decided_by, caught.value.run_id is None) == ("ann", False)
        done = await client.approvals.approve(pause, decided_by="ann", action=0)
        assert await results(client, done) == ["refunded 2.5 for 7", "closed kim"]


async def test_calls_that_pause_one_by_one_are_held_against_their_schema(client: Client) -> None:
    pauses = await paused(client, REFUND, CLOSE, agent="reviewed_one_by_one")
    refund, close = sorted(pauses, key=lambda pause: pause.action, reverse=True)
    assert (refund.kind, refund.args) == ("tool_call", REFUND[1])
    assert close.allowed == {"approve", "reject"}
    for args, reason in (
        ({"amount": "much"}, '"much" is not of type "number"'),
        ({"to": "x"}, "no argument to"),
    ):
        with pytest.raises(RefusedError, match=reason):
            await client.approvals.edit(refund, args, decided_by="ann")
    edited = await client.approvals.edit(refund, {"note": "sorry"}, decided_by="ann")
    assert edited.run is not None
    with pytest.raises(ApprovalNeededError):
        await client.join(edited.run)
    done = await client.approvals.reject(close, decided_by="bob", message="keep it")
    refunded, kept = await results(client, done)
    assert refunded.endswith("refunded 2.5 for 7 sorry")
    assert "keep it" in kept


async def test_the_command_decides_on_one_of_several(
    client: Client, server_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOLDFAST_URL", server_url)
    (pause,) = await paused(client, REFUND, CLOSE)

    async def holdfast(*arguments: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, ["approvals", arguments[0], pause.thread_id, *arguments[1:]])
        told = capsys.readouterr()
        return code, told.out + told.err

    change = ("--action", "1", "--args", '{"amount": 1.5}')
    code, told = await holdfast("edit", *change, "--dry-run")
    assert (code, "-amount: 2.5" in told, "+amount: 1.5" in told) == (0, True, True)
    assert (await holdfast("respond", "no", "--action", "2"))[0] == 4
    code, told = await holdfast("edit", *change, "--by", "ann")
    assert (code, "still open: action 2" in told) == (0, True)
    assert "edit by ann" in (await holdfast("show"))[1]
    assert (await holdfast("reject", "--action", "1", "--by", "bob"))[0] == 4
    code, told = await holdfast("reject", "--message", "keep it", "--by", "bob")
    assert code == 0
    assert "refunded 1.5 for 7" in told
    assert "keep it" in told


async def test_interfaces_approve_support_over_the_api(client: Client, sdk: Sdk) -> None:
    await asyncio.gather(be_too_late(client, sdk), *(approve_support(sdk, name) for name in INTERFACES))


async def approve_support(sdk: Sdk, name: str) -> None:
    """Ask for another draft and approve that, with what an interface sends."""
    interface = INTERFACES[name]
    thread_id = (await sdk.threads.create())["thread_id"]
    asked: Any = {"messages": [{"role": "user", "content": "I want my money back for order 104822."}]}
    await sdk.runs.wait(thread_id, "support", input=asked)
    reply = ""
    for send in (interface.feedback("Mention that we work Saturdays."), None):
        thread = await sdk.threads.get(thread_id)
        ((pause,),) = thread["interrupts"].values()
        values: Any = thread["values"]
        shown = interface.shows(pause["value"], values["messages"])
        assert shown, "it shows no button"
        reply = shown.args["reply"]
        # Each as it does it: agent-chat-ui sends an empty input along, agent-inbox follows the events.
        sent = interface.approve(shown) if send is None else send
        given: Any = {} if name == "agent-chat-ui" else None
        mode: Any = "events" if name.startswith("agent-inbox") else "values"
        command: Any = {"resume": sent}
        stream = sdk.runs.stream(thread_id, "support", input=given, command=command, stream_mode=mode)
        assert "error" not in {part.event async for part in stream}
    after: Any = await sdk.threads.get(thread_id)
    assert after["status"] == "idle"
    assert "We work Saturdays." in reply
    assert after["values"]["messages"][-1]["content"] == reply


WRONG: tuple[Any, ...] = (hitl({"type": "approve"}), [{"type": "accept", "args": None}], "yes")
"""Answers to two actions: one decision short, agent-inbox's shape, and words."""


async def test_a_question_that_a_wrong_answer_ended_is_asked_again_once(client: Client, sdk: Sdk) -> None:
    await asyncio.gather(*(reopen(client, sdk, answer) for answer in WRONG))


async def reopen(client: Client, sdk: Sdk, wrong: Any) -> None:
    (pause,) = await paused(client, REFUND, CLOSE)
    thread_id = pause.thread_id
    with pytest.raises(RefusedError, match="waits for a decision"):
        await client.approvals.reopen(thread_id, reopened_by="ann")
    command: Any = {"resume": wrong}
    await sdk.runs.wait(thread_id, "reviewed", command=command, raise_error=False)
    with pytest.raises(RefusedError, match="reopen"):
        await client.approvals.approve(pause, decided_by="ann")
    many = [client.approvals.reopen(thread_id, reopened_by=name) for name in "abcd"]
    ended = await asyncio.gather(*many, return_exceptions=True)
    (run,) = {one for one in ended if not isinstance(one, RefusedError)}  # who comes late is told it waits
    assert isinstance(run, RunHandle)
    with pytest.raises(ApprovalNeededError) as caught:
        await client.join(run)
    (again,) = caught.value.approvals
    assert (again.actions, again.pause_id == pause.pause_id) == (pause.actions, False)
    done = await client.approvals.approve(thread_id, decided_by="bob")
    assert await results(client, done) == ["refunded 2.5 for 7", "closed kim"]
    assert len((await client.threads.inspect(thread_id)).runs) == 4
    with pytest.raises(RefusedError, match="does not stand at a question"):
        await client.approvals.reopen(thread_id, reopened_by="ann")


async def test_what_would_repeat_more_than_the_question_is_not_reopened(client: Client, sdk: Sdk) -> None:
    for agent, reason in (("two_at_once", "ask_left, ask_right again"), ("asks_inside", "inside of outer")):
        with pytest.raises(ApprovalNeededError) as caught:
            await client.run(agent, {"text": "hello"})
        thread_id = caught.value.approvals[0].thread_id
        config: Any = {"recursion_limit": 0}  # fails before it has begun
        await sdk.runs.wait(thread_id, agent, config=config, raise_error=False)
        with pytest.raises(RefusedError, match=reason):
            await client.approvals.reopen(thread_id, reopened_by="ann")


async def test_a_run_goes_on_with_the_limits_of_the_one_that_paused(client: Client, sdk: Sdk) -> None:
    said = {"messages": [{"role": "user", "content": json.dumps([REFUND])}]}
    with pytest.raises(ApprovalNeededError) as caught:
        await client.run("reviewed", said, config={"recursion_limit": 77, "tags": ["desk"]})
    done = await client.approvals.approve(caught.value.approvals[0], decided_by="ann")
    await results(client, done)
    assert done.run is not None
    config: Any = (await sdk.runs.get(done.thread_id, done.run.run_id))["kwargs"]["config"]
    assert (config["recursion_limit"], config["tags"]) == (77, ["desk"])


async def test_a_decision_of_ones_own_is_known_in_every_form_of_json(client: Client) -> None:
    with pytest.raises(ApprovalNeededError) as caught:
        await client.run("asks_freely", {"text": "x"})
    done = await client.approvals.respond(caught.value.approvals[0], ({1: "a"}, "b"), decided_by="ann")
    assert done.run is not None
    assert (await client.join(done.run)).values["answers"] == [[{"1": "a"}, "b"]]


async def be_too_late(client: Client, sdk: Sdk) -> None:
    """Decide on what an interface has decided on before."""
    asked = {"messages": [{"role": "user", "content": "I want my money back for order 104822."}]}
    with pytest.raises(ApprovalNeededError) as caught:
        await client.run("support", asked)
    (pause,) = caught.value.approvals
    assert (pause.kind, pause.action, len(pause.allowed)) == ("hitl", "send_reply", 4)
    command: Any = {"resume": hitl({"type": "approve"})}
    await sdk.runs.wait(pause.thread_id, "support", command=command)
    with pytest.raises(RefusedError, match="moved on"):
        await client.approvals.reject(pause, decided_by="ann")


class SmallGate(httpx.AsyncHTTPTransport):
    """What stands before many servers: it takes no large body of a run."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/runs") and len(await request.aread()) > 100_000:
            return httpx.Response(413, text="Request Entity Too Large", request=request)
        return await super().handle_async_request(request)


async def test_a_decision_that_the_server_refuses_leaves_the_pause_open(server_url: str) -> None:
    async with (
        httpx.AsyncClient(base_url=server_url, transport=SmallGate()) as http,
        Client(server_url, retry=POLICY, http_client=http) as client,
    ):
        for calls in ((REFUND,), (REFUND, CLOSE)):
            (pause,) = await paused(client, *calls)
            for _ in range(2):
                with pytest.raises(RefusedError, match="Too Large"):
                    await client.approvals.reject(pause, decided_by="ann", message="no " * 50_000)
            assert set(await client.approvals.decided(pause)) == {None}
            approved = await client.approvals.approve(pause, decided_by="bob")
            assert (await results(client, approved))[0] == "refunded 2.5 for 7"
            with pytest.raises(AlreadyDecidedError, match="bob decided 'approve'"):
                await client.approvals.reject(pause, decided_by="ann")


async def test_a_dead_deciders_decision_that_the_server_refuses_leaves_the_pause_open(
    server_url: str,
) -> None:
    async with (
        httpx.AsyncClient(base_url=server_url, transport=SmallGate()) as http,
        Client(server_url, retry=POLICY, http_client=http) as client,
    ):
        (pause,) = await paused(client, REFUND)
        client.approvals._submission.grace_seconds = 1.0
        wanted = {"decision": "reject", "value": "no " * 50_000, "decided_by": "ann"}
        await client.approvals._pauses.take(pause, None, wanted)
        with pytest.raises(RefusedError, match="Too Large"):
            await client.approvals.approve(pause, decided_by="bob")
        approved = await client.approvals.approve(pause, decided_by="bob")
        assert (await results(client, approved))[0] == "refunded 2.5 for 7"


def test_the_stock_javascript_sdk_reviews_one_action_and_two(javascript: JavaScript, server_url: str) -> None:
    seen = javascript.run("review.mjs", HOLDFAST_URL=server_url)
    assert seen["one"][0].endswith("refunded 1.5 for 7")
    assert seen["two"][0] == "refunded 2.5 for 7"
    assert "keep it" in seen["two"][1]
