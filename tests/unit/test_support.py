"""The support agent, offline: who may reply without a human, every decision, and that a reply leaves once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command

from graphs.kit.effects import EFFECTS
from graphs.support.compliance import check_reply
from graphs.support.graph import SENT, graph
from graphs.support.policy_book import load_policies

pytestmark = pytest.mark.usefixtures("no_blocking")

EXAMPLE = json.loads(
    (Path(__file__).parents[2] / "graphs" / "examples" / "support.json").read_text(encoding="utf-8")
)
REFUND = "I want my money back for order 104822."
THREAD: RunnableConfig = {"configurable": {"thread_id": "conversation"}}


class Desk:
    """The agent with what a server gives it: a checkpointer and a store."""

    def __init__(self, store: InMemoryStore | None = None) -> None:
        """Start with an empty store, or with the one given."""
        self.store = store or InMemoryStore()
        self.graph: CompiledStateGraph[Any, Any, Any, Any] = graph.builder.compile(
            checkpointer=InMemorySaver(), store=self.store
        )

    async def say(self, text: str) -> dict[str, Any]:
        answer: dict[str, Any] = await self.graph.ainvoke({"messages": [("user", text)]}, THREAD)
        return answer

    async def decide(self, answer: object) -> dict[str, Any]:
        state: dict[str, Any] = await self.graph.ainvoke(Command(resume=answer), THREAD)
        return state

    def sent(self) -> list[str]:
        return [item.value["reply"] for item in self.store.search(SENT)]


def asked(state: dict[str, Any]) -> dict[str, Any]:
    """The one action request that the reviewer sees."""
    (waiting,) = state["__interrupt__"]
    (request,) = waiting.value
    assert isinstance(request, dict)
    return request


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("When are you open on Saturday? What are your opening hours?", "opening_hours"),
        ("Where is my order 104822?", "order_status"),
    ],
)
async def test_trivial_message_is_answered_at_once(text: str, category: str) -> None:
    desk = Desk()
    state = await desk.say(text)
    assert "__interrupt__" not in state
    reply = state["result"]["reply"]
    assert (reply["sent"], reply["decision"], reply["category"]) == (True, "auto", category)
    assert desk.sent() == [reply["text"]] == [state["messages"][-1].text]


@pytest.mark.parametrize(
    "text",
    [
        REFUND,
        "What are your opening hours? And where is my refund?",
        "Where is my order? " + "It was a present for a wedding. " * 10,
        "Blue or green?",
    ],
)
async def test_everything_else_waits_for_a_human(text: str) -> None:
    desk = Desk()
    state = await desk.say(text)
    assert asked(state)["action_request"]["args"]["reply"] == state["draft"]
    assert desk.sent() == []


async def test_example_asks_in_the_form_that_agent_inboxes_show() -> None:
    state = await Desk().graph.ainvoke(EXAMPLE, THREAD)
    request = asked(state)
    assert request["action_request"]["action"] == "send_reply"
    assert set(request["action_request"]["args"]) == {"reply", "category"}
    assert request["config"] == dict.fromkeys(
        ("allow_ignore", "allow_respond", "allow_edit", "allow_accept"), True
    )
    assert "order 104822" in state["draft"]
    assert "[REF-1]" in state["draft"]
    assert "[DMG-1]" in state["draft"]


@pytest.mark.parametrize("answer", [{"type": "accept", "args": None}, [{"type": "accept"}]])
async def test_accept_sends_the_draft(answer: object) -> None:
    desk = Desk()
    draft = (await desk.say(REFUND))["draft"]
    state = await desk.decide(answer)
    assert desk.sent() == [draft] == [state["messages"][-1].text]
    assert state["result"]["reply"]["decision"] == "accept"


async def test_edit_sends_the_reviewers_words_and_records_what_they_overruled() -> None:
    desk = Desk()
    await desk.say(REFUND)
    edited = "We refund 250 EUR today."
    request = {"action": "send_reply", "args": {"reply": edited, "category": "complaint"}}
    state = await desk.decide([{"type": "edit", "args": request}])
    reply = state["result"]["reply"]
    assert desk.sent() == [edited]
    assert (reply["decision"], reply["category"]) == ("edit", "complaint")
    assert {finding["code"] for finding in reply["findings"]} == {"refund_above_limit", "policy_not_cited"}


async def test_response_is_worked_in_and_asked_again() -> None:
    desk = Desk()
    first = await desk.say(REFUND)
    second = await desk.decide(
        {"type": "response", "args": "Please apologise. Mention that we work Saturdays."}
    )
    assert "We apologise" in second["draft"]
    assert "We work Saturdays." in second["draft"]
    assert second["__interrupt__"][0].id != first["__interrupt__"][0].id, "a new question, decided anew"
    third = await desk.decide({"type": "response", "args": "Say that photos help."})
    assert "We apologise" in third["draft"], "earlier feedback stays"
    assert desk.sent() == []
    await desk.decide({"type": "accept"})
    assert desk.sent() == [third["draft"]]


async def test_feedback_on_a_trivial_case_does_not_bypass_the_reviewer() -> None:
    desk = Desk()
    await desk.say(REFUND)
    await desk.say("Never mind. What are your opening hours?")
    state = await desk.decide({"type": "response", "args": "Make it shorter."})
    assert asked(state)
    assert desk.sent() == []


async def test_ignore_sends_nothing_and_says_so() -> None:
    desk = Desk()
    await desk.say(REFUND)
    state = await desk.decide([{"type": "ignore", "args": None}])
    assert desk.sent() == []
    assert state["result"]["reply"]["sent"] is False
    assert "No reply was sent" in state["messages"][-1].text


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("yes", '"type"'),
        ([], '"type"'),
        ([{"type": "accept"}, {"type": "ignore"}], '"type"'),
        ({"type": "approve"}, "'approve' is no type"),
        ({"type": "response", "args": "  "}, "feedback is missing"),
        ({"type": "response", "args": "x" * 2_001}, "2,001"),
        ({"type": "edit", "args": "Hello"}, "action request"),
        ({"type": "edit", "args": {"args": {"reply": ""}}}, "reply is missing"),
        ({"type": "edit", "args": {"args": {"reply": "x" * 4_001}}}, "4,001"),
        (
            {"type": "edit", "args": {"args": {"reply": "Hi", "category": "gossip"}}},
            "'gossip' is no category",
        ),
        ({"type": "edit", "args": {"args": {"reply": "Card 4111 1111 1111 1111"}}}, "card or account number"),
    ],
)
async def test_unusable_decision_asks_again_and_says_why(answer: object, reason: str) -> None:
    desk = Desk()
    first = await desk.say(REFUND)
    again = await desk.decide(answer)
    assert reason in asked(again)["description"]
    assert again["__interrupt__"][0].id != first["__interrupt__"][0].id
    assert again["draft"] == first["draft"]
    assert desk.sent() == []
    await desk.decide({"type": "accept"})
    assert desk.sent() == [first["draft"]]


async def test_compliance_sends_a_draft_back_once_and_tells_the_reviewer() -> None:
    desk = Desk()
    await desk.say(REFUND)
    state = await desk.decide({"type": "response", "args": "Mention that we refund 500 EUR. Thank them."})
    assert "500" not in state["draft"]
    assert "Thank them." in state["draft"]
    assert "500 is promised; 100 is the most" in asked(state)["description"]
    assert state["compliance"]["passed"]


@pytest.mark.parametrize(
    ("reply", "codes"),
    [
        ("We refund up to 100 EUR. [REF-1]", set()),
        ("We refund €1,250.00. [REF-1]", {"refund_above_limit"}),
        ("A voucher of 100.50 euros is yours. [REF-1]", {"refund_above_limit"}),
        ("We cannot refund 500 EUR. [REF-1]", set()),
        ("No problem, we credit $500. [REF-1]", {"refund_above_limit"}),
        ("The lamp costs 500 EUR. We refund the price. [REF-1]", set()),
        ("It is guaranteed to arrive. [REF-1]", {"guarantee"}),
        ("We can't guarantee a date. [REF-1]", set()),
        ("Your card 4111-1111-1111-1111 is charged. [REF-1]", {"personal_data"}),
        ("Parcel 4111-1111-1111-1112 is on its way. [REF-1]", set()),
        ("Paid to DE89 3704 0044 0532 0130 00. [REF-1]", {"personal_data"}),
        ("We look into it.", {"policy_not_cited"}),
        (" ", {"empty_reply", "policy_not_cited"}),
        ("[REF-1]" + "x" * 4_000, {"reply_too_long"}),
    ],
)
def test_compliance_rules(reply: str, codes: set[str]) -> None:
    findings = check_reply(reply, [{"id": "REF-1", "refund_limit": 100.0}])
    assert {finding["code"] for finding in findings} == codes
    assert "4111-1111-1111-1111" not in str(findings), "a finding is masked as well"


async def test_card_number_is_masked_for_the_reviewer() -> None:
    state = await Desk().say("Refund my card 4111 1111 1111 1111, please.")
    assert "4111 1111" not in asked(state)["description"] + state["draft"]
    assert "[number ending 1111]" in asked(state)["description"]


class ForgetfulStore(InMemoryStore):
    """Loses the connection once, after a reply was sent and before that is recorded."""

    failures = 1

    async def aput(self, namespace: tuple[str, ...], *args: Any, **kwargs: Any) -> None:
        if namespace == (EFFECTS,) and self.failures:
            self.failures -= 1
            raise ConnectionError("the store went away")
        await super().aput(namespace, *args, **kwargs)


async def test_reply_leaves_once_when_its_node_runs_again() -> None:
    store = ForgetfulStore()
    desk = Desk(store)
    await desk.say(REFUND)
    state = await desk.decide({"type": "accept"})
    assert state["result"]["reply"]["sent"]
    assert store.failures == 0, "the fault did happen"
    assert len(desk.sent()) == 1


async def test_message_that_arrives_while_waiting_is_answered_with_the_first() -> None:
    desk = Desk()
    await desk.say(REFUND)
    state = await desk.say("It arrived broken, too.")
    assert "money back" in asked(state)["description"]
    assert "[DMG-1]" in state["draft"]
    await desk.decide({"type": "accept"})
    trivial = await desk.say("Thanks. What are your opening hours?")
    assert trivial["result"]["reply"]["decision"] == "auto", "the last turn's decision is not this one's"
    assert len(desk.sent()) == 2


async def test_administrator_can_decide_by_writing_the_state() -> None:
    desk = Desk()
    await desk.say(REFUND)
    decision = {"draft": "We have called you.", "decision": {"type": "edit", "note": None}}
    await desk.graph.aupdate_state(THREAD, decision, as_node="human_approval")
    await desk.graph.ainvoke(None, THREAD)
    assert desk.sent() == ["We have called you."]


async def test_draft_is_not_streamed_before_its_approval() -> None:
    desk = Desk()
    turn = {"messages": [("user", REFUND)]}
    spoken = []
    part: Any  # (namespace, (message, metadata))
    async for part in desk.graph.astream(turn, THREAD, stream_mode="messages", subgraphs=True):
        message = part[1][0]
        spoken += [message] if message.type != "human" else []
    assert spoken == []


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([("user", "")], "empty_message"),
        ([("user", " \n ")], "empty_message"),
        ([], "empty_message"),
        ([("user", "x" * 1_000_000)], "prompt_too_long"),
    ],
)
async def test_bad_input_is_answered(messages: list[tuple[str, str]], code: str) -> None:
    state = await Desk().graph.ainvoke({"messages": messages}, THREAD)
    assert state["problem"]["code"] == code
    assert state["problem"]["cure"] in state["messages"][-1].text
    assert "__interrupt__" not in state


@pytest.mark.parametrize("text", ["no head", '+++\nid = "X"\n+++\ntext', "+++\nid = \n+++\ntext"])
def test_broken_policy_file_is_named_at_load(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.md").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.md"):
        load_policies(tmp_path)
