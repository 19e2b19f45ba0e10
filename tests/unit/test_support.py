"""The support agent, offline: who may reply without a human, every decision, and that a reply leaves once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command

from graphs.kit.effects import EFFECTS
from graphs.support.answers import read_answer
from graphs.support.graph import SENT, graph
from graphs.support.policy_book import load_policy
from graphs.support.review import check_reply
from tests.contract.interfaces import INTERFACES, MARK_RESOLVED, Interface, Shown, hitl

pytestmark = pytest.mark.usefixtures("no_blocking")

EXAMPLES = Path(__file__).parents[2] / "graphs" / "examples"
EXAMPLE = json.loads((EXAMPLES / "support.json").read_text(encoding="utf-8"))
HOURS, REFUND = "What are your opening hours?", "I want my money back for order 104822."
THREAD: RunnableConfig = {"configurable": {"thread_id": "conversation"}}


class Store(InMemoryStore):
    """Loses the connection once, after a reply was sent and before that is recorded."""

    failures = 0

    async def aput(self, namespace: tuple[str, ...], *args: Any, **kwargs: Any) -> None:
        if namespace == (EFFECTS,) and self.failures:
            self.failures -= 1
            raise ConnectionError("the store went away")
        await super().aput(namespace, *args, **kwargs)


class Desk:
    """The agent with what a server gives it: a checkpointer and a store."""

    def __init__(self) -> None:
        """Start without conversations."""
        self.store, saver = Store(), InMemorySaver()
        self.graph: CompiledStateGraph[Any, Any, Any, Any] = graph.builder.compile(saver, store=self.store)

    async def say(self, *messages: str) -> Any:
        return await self.graph.ainvoke({"messages": [("user", text) for text in messages]}, THREAD)

    async def decide(self, answer: object) -> Any:
        return await self.graph.ainvoke(Command(resume=answer), THREAD)

    def sent(self) -> list[str]:
        return [item.value["reply"] for item in self.store.search(SENT)]


def asked(state: dict[str, Any]) -> Any:
    """The one action request that the reviewer sees."""
    ((request,),) = [waiting.value["action_requests"] for waiting in state["__interrupt__"]]
    return request


def shown_by(interface: Interface, state: dict[str, Any]) -> Shown:
    """What an interface makes of the pause; the messages are as the server sends them."""
    messages = [message.model_dump(mode="json") for message in state["messages"]]
    shown = interface.shows(state["__interrupt__"][0].value, messages)
    assert shown, "it shows no button"
    return shown


@pytest.mark.parametrize(
    ("text", "category"), [(HOURS, "opening_hours"), ("Where is my order 104822?", "order_status")]
)
async def test_trivial_message_is_answered_at_once(text: str, category: str) -> None:
    desk = Desk()
    state = await desk.say(text)
    reply = state["result"]["reply"]
    assert (reply["sent"], reply["decision"], reply["category"]) == (True, "auto", category)
    assert desk.sent() == [reply["text"]] == [state["messages"][-1].text]


@pytest.mark.parametrize("text", ["Blue or green?", f"{HOURS} And my refund?", HOURS + " A gift." * 30])
async def test_everything_else_waits_for_a_human(text: str) -> None:
    desk = Desk()
    assert asked(await desk.say(text))
    assert desk.sent() == []


@pytest.mark.parametrize("interface", INTERFACES.values(), ids=list(INTERFACES))
async def test_each_interface_shows_the_pause_and_what_it_sends_is_done(interface: Interface) -> None:
    desk = Desk()
    await desk.say(
        HOURS
    )  # a turn before, since some interfaces show the first pause more readily than others
    state = await desk.graph.ainvoke(EXAMPLE, THREAD)
    assert all(part in state["draft"] for part in ("order 104822", "[REF-1]", "[DMG-1]"))
    shown = shown_by(interface, state)
    assert (shown.action, shown.args) == ("send_reply", {"reply": state["draft"], "category": "refund"})
    assert {"edit", *({"approve"} & shown.buttons or {"accept"})} <= shown.buttons
    again = await desk.decide(interface.feedback("Mention that we work Saturdays."))
    assert "\n\nWe work Saturdays.\n\nKind regards" in shown_by(interface, again).args["reply"]
    done = await desk.decide(interface.approve(shown_by(interface, again)))
    assert desk.sent()[1:] == [again["draft"]] == [done["messages"][-1].text]

    shown = shown_by(interface, await desk.say(REFUND))
    edited = await desk.decide(interface.edit(shown, {"reply": "We look into it. [REF-1]"}))
    assert edited["result"]["reply"]["decision"] == "edit"
    assert desk.sent()[2:] == ["We look into it. [REF-1]"]
    if interface.decline:
        await desk.say(REFUND)
        declined = await desk.decide(interface.decline())
        assert (len(desk.sent()), declined["result"]["reply"]["sent"]) == (3, False)
        assert "No reply was sent" in declined["messages"][-1].text


@pytest.mark.parametrize("command", MARK_RESOLVED.values(), ids=list(MARK_RESOLVED))
async def test_pause_outlives_the_button_that_marks_a_thread_resolved(command: dict[str, Any]) -> None:
    desk = Desk()
    await desk.say(REFUND)
    # LangGraph for Python ignores a goto to the end, so the thread waits as before, and nothing was sent.
    state = await desk.graph.ainvoke(Command(**command), THREAD)
    assert (asked(state)["name"], desk.sent()) == ("send_reply", [])
    await desk.decide(hitl({"type": "approve"}))
    assert desk.sent() == [state["draft"]]


async def test_conversation_keeps_replies_and_no_drafts() -> None:
    desk = Desk()
    waiting = await desk.say(REFUND)
    call = waiting["messages"][-1].tool_calls[0]
    # As agent-chat-ui does when somebody writes while a call waits: an answer to the call, and the message.
    handled = ToolMessage("Successfully handled tool call.", tool_call_id=call["id"])
    await desk.graph.ainvoke({"messages": [handled, ("user", "It arrived broken, too.")]}, THREAD)
    done = await desk.decide(hitl({"type": "approve"}))
    assert [message.type for message in done["messages"]] == ["human", "human", "ai"]
    assert not done["messages"][-1].tool_calls


async def test_edit_records_what_the_reviewer_overruled() -> None:
    desk = Desk()
    await desk.say(REFUND)
    action = {"name": "send_reply", "args": {"reply": "We refund 250 EUR today.", "category": "complaint"}}
    reply = (await desk.decide(hitl({"type": "edit", "edited_action": action})))["result"]["reply"]
    assert desk.sent() == ["We refund 250 EUR today."]
    assert (reply["decision"], reply["category"], len(reply["findings"])) == ("edit", "complaint", 2)


async def test_feedback_that_breaks_a_rule_is_sent_back_by_compliance() -> None:
    desk = Desk()
    await desk.say(REFUND)
    state = await desk.decide(hitl({"type": "respond", "message": "Say that we refund 500 EUR."}))
    assert "500" not in state["draft"]
    assert "500.00 is promised, but 100.00 is the most" in asked(state)["description"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([{"type": "accept"}, {"type": "ignore"}], "one decision"),
        (hitl(), "one decision"),
        (hitl({"type": "approve"}, {"type": "approve"}), "one decision"),
        ({"decisions": "approve"}, "one decision"),
        ({"type": ["approve"]}, '"type"'),
        ("approve", '"type"'),
        (hitl({"type": "respond"}), "feedback must be a text"),
        (hitl({"type": "reject", "message": 5}), "feedback must be a text"),
        ({"type": "response", "args": "  "}, "feedback must be a text"),
        (hitl({"type": "edit", "edited_action": {"name": "refund", "args": {}}}), "Only send_reply"),
        (hitl({"type": "edit", "edited_action": {"args": {"reply": "Hi", "to": "x"}}}), "no argument to"),
        ({"type": "edit", "args": "Hello"}, "reply must be a text"),
        ({"type": "edit", "args": {"args": {"reply": "Hi", "category": "gossip"}}}, "must be one of"),
        ({"type": "edit", "args": {"args": {"reply": "Card 4111 1111 1111 1111"}}}, "account number"),
    ],
)
async def test_unusable_decision_asks_again_and_says_why(answer: object, reason: str) -> None:
    desk = Desk()
    first = await desk.say(REFUND)
    again = await desk.decide(answer)
    assert reason in asked(again)["description"]
    assert again["__interrupt__"][0].id != first["__interrupt__"][0].id, "a new question, decided anew"
    await desk.decide(hitl({"type": "approve"}))
    assert desk.sent() == [first["draft"]]


def test_a_draft_that_is_none_cannot_be_approved() -> None:
    with pytest.raises(ValueError, match="no draft to approve"):
        read_answer(hitl({"type": "approve"}), " ")
    assert read_answer(hitl({"type": "reject"}), "") == {"decision": {"type": "reject"}}


@pytest.mark.parametrize(
    ("reply", "finding"),
    [
        ("The lamp costs 500 EUR. We refund up to 100 EUR within 200 days. [REF-1]", None),
        ("We refund €1,250.00. [REF-1]", "1,250.00 is promised"),
        ("A voucher of 100,50 euros is yours. [REF-1]", "100.50 is promised"),
        ("It is guaranteed to arrive. [REF-1]", "guarantee"),
        ("Parcel 4111-1111-1111-1112 is on its way. [REF-1]", None),
        ("Your card 4111-1111-1111-1111 is charged. [REF-1]", "account number"),
        ("Paid to DE89 3704 0044 0532 0130 00. [REF-1]", "account number"),
        ("We look into it.", "must cite its policy: [REF-1]"),
        ("[REF-1]" + "x" * 4_000, "4,000 characters"),
    ],
)
def test_compliance_rules(reply: str, finding: str | None) -> None:
    found = check_reply(reply, [{"id": "REF-1", "refund_limit": 100.0}])
    assert found == [] if finding is None else finding in " ".join(found)


async def test_reply_leaves_once_when_its_node_runs_again() -> None:
    desk = Desk()
    desk.store.failures = 1
    await desk.say(HOURS)
    assert (desk.store.failures, len(desk.sent())) == (0, 1)


async def test_message_that_arrives_while_waiting_is_shown_masked_and_answered_with_the_first() -> None:
    desk = Desk()
    await desk.say("Refund my card 4111 1111 1111 1111, please.")
    state = await desk.say("It arrived broken, too.")
    assert "card [number ending 1111], please.\nIt arrived broken" in asked(state)["description"]
    assert "[REF-1]" in state["draft"]
    assert "[DMG-1]" in state["draft"]
    await desk.decide({"type": "accept"})
    assert (await desk.say(HOURS))["result"]["reply"]["decision"] == "auto", "a new turn, decided anew"


async def test_draft_is_not_streamed_as_text_before_its_approval() -> None:
    turn: Any = {"messages": [("user", REFUND)]}
    part: Any  # (namespace, (message, metadata))
    async for part in Desk().graph.astream(turn, THREAD, stream_mode="messages", subgraphs=True):
        assert part[1][0].type == "human" or not part[1][0].content  # a call, as the reviewer sees it


@pytest.mark.parametrize(
    ("messages", "code"),
    [([" \n "], "empty_message"), ([], "empty_message"), (["x" * 1_000_000], "prompt_too_long")],
)
async def test_bad_input_is_answered(messages: list[str], code: str) -> None:
    state = await Desk().say(*messages)
    assert state["problem"]["code"] == code
    assert state["problem"]["cure"] in state["messages"][-1].text


def test_broken_policy_file_is_named_at_load(tmp_path: Path) -> None:
    (tmp_path / "broken.md").write_text('+++\nid = "X"\n+++\ntext', encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.md"):
        load_policy(tmp_path / "broken.md")
