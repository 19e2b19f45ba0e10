"""What the support agent keeps from one conversation for the next, and the limits that it keeps to."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.runtime import Runtime, ServerInfo
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from langgraph_sdk.auth.types import MinimalUser

from graphs.support.graph import graph
from graphs.support.memory import KEPT, MAX_CHARACTERS, MEMORY, recall, remember, room_of
from tests.contract.interfaces import hitl

pytestmark = pytest.mark.usefixtures("no_blocking")

REFUND = "Please always call me Kim. I want my money back for card 4111 1111 1111 1111."


class User(MinimalUser):
    """Whoever the server has let in."""

    def __init__(self, identity: str) -> None:
        """Take the name."""
        self._identity = identity

    @property
    def identity(self) -> str:
        return self._identity


class Desk:
    """The agent with a store, asked on behalf of customers."""

    def __init__(self, store: InMemoryStore | None = None) -> None:
        """Start without conversations."""
        self.store = store
        self.graph: Any = graph.builder.compile(InMemorySaver(), store=store)

    async def say(self, text: str, customer: str | None, thread: str, **context: Any) -> Any:
        given = {"messages": [("user", text)], "customer": customer}
        return await self.graph.ainvoke(given, _of(thread), context=context)

    async def decide(self, decision: dict[str, Any], thread: str, **context: Any) -> Any:
        return await self.graph.ainvoke(Command(resume=hitl(decision)), _of(thread), context=context)


def _of(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


async def test_a_later_conversation_knows_wishes_and_cases_and_no_other_customers() -> None:
    desk = Desk(InMemoryStore())
    first = await desk.say(REFUND, "c-1", "first")
    assert first["remembered"] == {"wishes": [], "cases": []}
    await desk.decide({"type": "approve"}, "first")
    await desk.say("My lamp is broken.", "c-1", "second")
    await desk.decide({"type": "reject"}, "second")

    later = await desk.say("I want my money back.", "c-1", "third")
    assert later["draft"].startswith("Hello Kim,")
    [waiting] = later["__interrupt__"]
    assert "**Wishes of the customer:** Please always call me Kim" in waiting.value["description"]
    assert [case["decision"] for case in later["remembered"]["cases"]] == ["reject", "approve"]
    assert "1111 1111" not in str(later["remembered"])
    assert later["remembered"]["cases"][1]["asked"].endswith("[number ending 1111].")
    for customer in ("c-2", "c-", "c-1 ", None):
        other = await desk.say("I want my money back.", customer, f"other {customer}")
        assert not any(other["remembered"].values())
        assert other["draft"].startswith("Hello,")


async def test_a_reply_that_nobody_reads_before_says_nothing_of_the_memory() -> None:
    desk = Desk(InMemoryStore())
    await desk.say("Call me Kim. What are your opening hours?", "c-1", "first")
    state = await desk.say("What are your opening hours?", "c-1", "second")
    assert state["remembered"]["wishes"] == ["Call me Kim"]
    assert state["result"]["reply"]["text"].startswith("Hello,")


def test_each_caller_has_rooms_of_its_own() -> None:
    def room(identity: str | None, customer: str | None) -> str | None:
        user: Any = User(identity) if identity else None
        server: Any = ServerInfo(assistant_id="a", graph_id="support", user=user)
        return room_of(Runtime(server_info=server), customer)

    pairs = [("ann", "1"), ("bob", "1"), ("ann", "2"), (None, "1"), ("an", "n1"), ("ann.1", "1")]
    rooms = [room(*pair) for pair in pairs]
    assert len(set(rooms)) == len(pairs)
    assert all(name and name.isalnum() for name in rooms)
    assert room("ann", None) is None


async def test_the_memory_of_a_customer_is_bounded_and_told_once() -> None:
    store = InMemoryStore()
    for number in range(30):
        case = {"asked": f"{number} " + "x" * 5_000, "decision": "approve"}
        for _ in range(2):
            await remember(store, "room", f"key {number}", case, f"Wish {number % 9}")
    kept = {kind: await store.asearch((*MEMORY, "room", kind), limit=100) for kind in KEPT}
    assert {kind: len(items) for kind, items in kept.items()} == KEPT
    assert max(len(item.value["asked"]) for item in kept["cases"]) == MAX_CHARACTERS
    known = await recall(store, "room", "x")
    assert [case["asked"][:3] for case in known["cases"]] == ["29 ", "28 ", "27 ", "26 ", "25 "]
    assert known["wishes"][0] == "Wish 2"


async def test_without_a_store_it_works_and_remembers_nothing() -> None:
    desk = Desk()
    await desk.say(REFUND, "c-1", "first")
    assert (await desk.decide({"type": "approve"}, "first"))["result"]["reply"]["sent"]
    assert (await desk.say("Refund!", "c-1", "second"))["remembered"] == {}


@pytest.mark.parametrize("customer", ["", "x" * 201, 7, ["c-1"]])
async def test_a_customer_that_is_none_is_answered(customer: Any) -> None:
    state = await Desk(InMemoryStore()).say("Refund!", customer, "first")
    assert state["problem"]["code"] == "invalid_customer"


async def test_limits_end_a_turn_with_a_problem_and_count() -> None:
    desk = Desk()
    state = await desk.say(REFUND, None, "first", max_model_calls=1)
    assert state["problem"]["code"] == "budget_spent"
    assert "1 model calls are the most" in state["messages"][-1].text
    assert state["usage"]["model_calls"] == 1
    assert "__interrupt__" not in state
    again = await desk.say(REFUND, None, "first", max_model_calls=2, max_tool_calls=0)
    assert (again["problem"], again["usage"]["model_calls"]) == (None, 2)
    assert again["__interrupt__"], "the next turn has a budget of its own"


async def test_a_draft_that_cannot_be_written_anew_is_still_the_reviewers() -> None:
    desk = Desk()
    first = await desk.say(REFUND, None, "first", max_model_calls=2)
    state = await desk.decide({"type": "respond", "message": "Be brief."}, "first", max_model_calls=2)
    said = state["__interrupt__"][0].value["action_requests"][0]
    assert "2 model calls are the most it may take" in said["description"]
    assert said["args"]["reply"] == first["draft"]
    done = await desk.decide({"type": "approve"}, "first", max_model_calls=2)
    assert done["result"]["reply"]["text"] == first["draft"]
