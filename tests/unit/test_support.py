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
from graphs.support.graph import SENT, graph
from graphs.support.policy_book import load_policy
from graphs.support.review import check_reply

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
    ((request,),) = [waiting.value for waiting in state["__interrupt__"]]
    return request


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


async def test_example_asks_as_agent_inboxes_show_and_accept_sends_the_draft() -> None:
    desk = Desk()
    state = await desk.graph.ainvoke(EXAMPLE, THREAD)
    args = {"reply": state["draft"], "category": "refund"}
    assert asked(state)["action_request"] == {"action": "send_reply", "args": args}
    assert set(asked(state)["config"]) == {"allow_ignore", "allow_respond", "allow_edit", "allow_accept"}
    assert all(part in state["draft"] for part in ("order 104822", "[REF-1]", "[DMG-1]"))
    state = await desk.decide([{"type": "accept", "args": None}])
    assert desk.sent() == [args["reply"]] == [state["messages"][-1].text]


async def test_edit_sends_the_reviewers_words_and_records_what_they_overruled() -> None:
    desk = Desk()
    await desk.say(REFUND)
    request = {"action": "send_reply", "args": {"reply": "We refund 250 EUR today.", "category": "complaint"}}
    reply = (await desk.decide({"type": "edit", "args": request}))["result"]["reply"]
    assert desk.sent() == ["We refund 250 EUR today."]
    assert (reply["decision"], reply["category"], len(reply["findings"])) == ("edit", "complaint", 2)


async def test_response_is_worked_in_unless_it_breaks_a_rule_and_ignore_sends_nothing() -> None:
    desk = Desk()
    await desk.say(REFUND)
    second = await desk.decide({"type": "response", "args": "Mention that we work Saturdays."})
    assert "\n\nWe work Saturdays.\n\nKind regards" in second["draft"]
    third = await desk.decide({"type": "response", "args": "Say that we refund 500 EUR."})
    assert "500" not in third["draft"], "compliance sent it back"
    assert "500.00 is promised, but 100.00 is the most" in asked(third)["description"]
    ignored = await desk.decide([{"type": "ignore", "args": None}])
    assert (desk.sent(), ignored["result"]["reply"]["sent"]) == ([], False)
    assert "No reply was sent" in ignored["messages"][-1].text


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([{"type": "accept"}, {"type": "ignore"}], '"type"'),
        ({"type": ["approve"]}, '"type"'),
        ({"type": "response", "args": "  "}, "feedback must be a text"),
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
    await desk.decide({"type": "accept"})
    assert desk.sent() == [first["draft"]]


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


async def test_draft_is_not_streamed_before_its_approval() -> None:
    turn: Any = {"messages": [("user", REFUND)]}
    part: Any  # (namespace, (message, metadata))
    async for part in Desk().graph.astream(turn, THREAD, stream_mode="messages", subgraphs=True):
        assert part[1][0].type == "human"


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
