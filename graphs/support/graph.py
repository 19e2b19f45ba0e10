"""The support agent: no reply but a trivial one leaves without a human's decision.

    START → intake → triage → writer → propose → human_approval → send_reply or leave_unanswered → END
                                ↑______feedback_______|

Two sub-agents, each a graph of its own: `triage` (classify → look_up_policy) and `writer` (draft ⇄
check_compliance). A trivial reply skips the human. A thread is one conversation.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langgraph.constants import TAG_NOSTREAM
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from graphs.kit.context import Context
from graphs.kit.effects import once
from graphs.kit.intake import intake_node
from graphs.kit.middleware import usage_of
from graphs.kit.model import ask_model
from graphs.kit.policies import MODEL_TIMEOUT_SECONDS, TOOL_TIMEOUT_SECONDS, TRANSIENT_RETRY
from graphs.kit.problems import InputProblem
from graphs.support import prompts
from graphs.support.answers import read_answer
from graphs.support.policy_book import CATEGORIES, OTHER, look_up
from graphs.support.review import ACTION, ask, check_reply, mask, proposed
from graphs.support.state import NEW_TURN, State, customer_text, forget_proposals, proposal_id

SENT: Final = ("support", "sent")  # the store's namespace from which a mail or chat bridge takes replies
MAX_TRIVIAL_CHARACTERS: Final = 200  # a longer message says more than its keywords do
# A draft must not reach a front end as text: only an approved reply is for the customer.
_UNSTREAMED: Final[Any] = {"tags": [TAG_NOSTREAM]}


async def check_input(state: State) -> dict[str, Any]:
    """Refuse a turn without text."""
    if not customer_text(state.get("messages", [])):
        cure = "Send a message with text: {'messages': [{'role': 'user', 'content': …}]}."
        raise InputProblem("empty_message", "The customer's message is empty.", cure)
    return {**NEW_TURN, "messages": forget_proposals(state["messages"])}


async def classify(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Sort the message into a category; what the model invents counts as `other`."""
    said = [SystemMessage(prompts.CLASSIFIER), HumanMessage(mask(customer_text(state["messages"])))]
    answer = await ask_model(prompts.classify, said, runtime, **_UNSTREAMED)
    category = answer.text.strip("\"'.` \n").lower()
    return {"category": category if category in CATEGORIES else OTHER, "usage": usage_of(answer)}


async def look_up_policy(state: State) -> dict[str, Any]:
    """Copy the policies that apply into the state: what a draft is made from does not change as it waits."""
    return {"policy": look_up(customer_text(state["messages"]), state["category"])}


def is_trivial(state: State) -> bool:
    """A short question, answered by policies that need no human, and that no reviewer has yet."""
    short = len(customer_text(state["messages"])) <= MAX_TRIVIAL_CHARACTERS
    return short and all(policy["auto_reply"] for policy in state["policy"]) and not state["decision"]


async def draft(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Write the reply, or write it anew after feedback or findings."""
    if is_trivial(state):
        # Nobody reads it before it leaves, so it is the policy's own words, whatever model is in use.
        return {"draft": prompts.write(prompts.brief(state))}
    answer = await ask_model(prompts.write, prompts.brief(state), runtime, **_UNSTREAMED)
    return {"draft": answer.text.strip(), "usage": usage_of(answer)}


async def check_compliance(state: State) -> Command[str]:
    """Send a draft with findings back, once; a human sees what the second one still breaks."""
    before = state["compliance"].get("findings", [])
    findings = check_reply(state["draft"], state["policy"])
    verdict = {"findings": findings, "sent_back_for": before}
    return Command(goto="draft" if findings and not before else END, update={"compliance": verdict})


def after_writing(state: State) -> str:
    """Only a trivial reply that keeps every rule goes without a human."""
    return "send_reply" if is_trivial(state) and not state["compliance"]["findings"] else "propose"


async def propose(state: State) -> dict[str, Any]:
    """Show the draft in the conversation as the call that it stands for.

    Chat interfaces show an approval beside the last message, some only beside a call of that name. Whatever
    comes of the draft (the next one, the reply) takes the message's place.
    """
    call = {"name": ACTION, "args": proposed(state), "id": f"call_{uuid.uuid4().hex}"}
    return {"messages": [AIMessage("", id=proposal_id(state["messages"]), tool_calls=[call])]}


async def human_approval(state: State) -> dict[str, Any]:
    """Wait for a reviewer; an answer that cannot be used comes back here, to ask again and say why."""
    # Nothing here may have an effect: a resume runs this node again from its top.
    answer = interrupt(ask(state))
    try:
        return read_answer(answer)
    except ValueError as error:
        # Through the graph and not in a loop here: each question gets an id of its own to be decided by.
        return {"decision": {"type": "unusable", "note": str(error)}}


def after_approval(state: State) -> str:
    """Do what the reviewer decided."""
    steps = {"approve": "send_reply", "edit": "send_reply", "respond": "writer", "reject": "leave_unanswered"}
    return steps.get(state["decision"]["type"], "human_approval")


async def send_reply(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Send the reply, once however often this node runs."""
    reply = state["draft"]
    thread_id = runtime.execution_info.thread_id if runtime.execution_info else None

    async def send(key: str) -> dict[str, Any]:
        if runtime.store is not None:
            await runtime.store.aput(SENT, key, {"reply": reply, "thread_id": thread_id}, index=False)
        return {"key": key}

    sent = await once(runtime, "send_reply", send)
    message = AIMessage(reply, id=proposal_id(state["messages"]) or sent["key"], name="support")
    outcome = {
        "sent": True,
        "text": reply,
        "category": state["category"],
        "decision": state["decision"].get("type", "auto"),
        "findings": check_reply(reply, state["policy"]),  # what a reviewer overruled, on record
    }
    return {"result": {"reply": outcome}, "messages": [message]}


async def leave_unanswered(state: State) -> dict[str, Any]:
    """Say that the reviewer chose to send nothing."""
    said = "No reply was sent: the reviewer left this message unanswered."
    note = AIMessage(said, id=proposal_id(state["messages"]), name="note")
    outcome = {"sent": False, "text": None, "category": state["category"], "decision": "reject"}
    return {"result": {"reply": outcome}, "messages": [note]}


class Case(TypedDict, total=False):
    """What the sub-agents are given: all but the usage, so that theirs alone is added to it."""

    messages: list[AnyMessage]
    category: str
    policy: list[dict[str, Any]]
    draft: str
    compliance: dict[str, list[str]]
    decision: dict[str, Any]


_triage = (
    StateGraph(State, context_schema=Context, input_schema=Case)
    .add_node("classify", classify, retry_policy=TRANSIENT_RETRY, timeout=MODEL_TIMEOUT_SECONDS)
    .add_node("look_up_policy", look_up_policy)
    .add_edge(START, "classify")
    .add_edge("classify", "look_up_policy")
    .compile(name="triage")
)
_writer = (
    StateGraph(State, context_schema=Context, input_schema=Case)
    .add_node("draft", draft, retry_policy=TRANSIENT_RETRY, timeout=MODEL_TIMEOUT_SECONDS)
    .add_node("check_compliance", check_compliance, destinations=("draft", END))
    .add_edge(START, "draft")
    .add_edge("draft", "check_compliance")
    .compile(name="writer")
)
graph = (
    StateGraph(State, context_schema=Context)
    .add_node("intake", intake_node(check_input, accepted="triage"), destinations=("triage", END))
    .add_node("triage", _triage)
    .add_node("writer", _writer)
    .add_node("propose", propose)
    .add_node("human_approval", human_approval)
    .add_node("send_reply", send_reply, retry_policy=TRANSIENT_RETRY, timeout=TOOL_TIMEOUT_SECONDS)
    .add_node("leave_unanswered", leave_unanswered)
    .add_edge(START, "intake")
    .add_edge("triage", "writer")
    .add_conditional_edges("writer", after_writing, ["send_reply", "propose"])
    .add_edge("propose", "human_approval")
    .add_conditional_edges(
        "human_approval", after_approval, ["send_reply", "writer", "leave_unanswered", "human_approval"]
    )
    .compile(name="support")
)
