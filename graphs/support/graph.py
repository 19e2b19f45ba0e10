"""The support agent: no reply but a trivial one leaves without a human's decision.

    START → intake → triage → writer → human_approval → send_reply → END
                       │         ↑ └──(trivial)──────────↑
                       │         └── (feedback) ──┘  └→ leave_unanswered → END
            classify → look_up_policy    draft ⇄ check_compliance

`triage` and `writer` are graphs of their own. A thread is one conversation.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langgraph.constants import TAG_NOSTREAM
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from graphs.kit.effects import once
from graphs.kit.model import chat_model
from graphs.kit.policies import MODEL_TIMEOUT_SECONDS, TOOL_TIMEOUT_SECONDS, TRANSIENT_RETRY
from graphs.kit.problems import InputProblem
from graphs.kit.team import intake_node
from graphs.support import prompts
from graphs.support.approval import UnusableAnswerError, ask, read_answer
from graphs.support.compliance import check_reply, mask
from graphs.support.policy_book import CATEGORIES, OTHER, look_up
from graphs.support.state import NEW_TURN, Compliance, Decision, Finding, State, customer_text

SENT: Final = ("support", "sent")
"""Where replies go: a namespace of the platform's store, from which a mail or chat bridge would take them."""

MAX_TRIVIAL_CHARACTERS: Final = 200
"""A longer message says more than its keywords do, so a human reads it."""

# A draft must not reach a front end token by token: only an approved reply is for the customer.
_UNSTREAMED: Final[Any] = {"tags": [TAG_NOSTREAM]}


async def check_input(state: State) -> dict[str, Any]:
    """Refuse a turn without text."""
    if not customer_text(state.get("messages", [])):
        raise InputProblem(
            "empty_message",
            "The customer's message is empty.",
            "Send a message with text: {'messages': [{'role': 'user', 'content': …}]}.",
        )
    return dict(NEW_TURN)


async def classify(state: State) -> dict[str, Any]:
    """Sort the message into a category; what the model invents counts as `other`."""
    model = chat_model(prompts.classify, [])
    message = HumanMessage(mask(customer_text(state["messages"])))
    answer = await model.ainvoke([SystemMessage(prompts.CLASSIFIER), message], _UNSTREAMED)
    category = answer.text.strip().strip("\"'.`").lower()
    return {"category": category if category in CATEGORIES else OTHER}


async def look_up_policy(state: State) -> dict[str, Any]:
    """Find the policies for the message."""
    return {"policy": look_up(customer_text(state["messages"]), state["category"] or OTHER)}


async def draft(state: State) -> dict[str, Any]:
    """Write the reply, or write it anew after feedback or findings."""
    if _is_trivial(state):
        # Nobody reads it before it leaves, so it is the policy's own words, whatever model is in use.
        return {"draft": prompts.write(prompts.brief(state))}
    answer = await chat_model(prompts.write, []).ainvoke(prompts.brief(state), _UNSTREAMED)
    return {"draft": answer.text.strip()}


async def check_compliance(state: State) -> dict[str, Any]:
    """Check the draft, and let a trivial one that passes at once go without a human."""
    before = state.get("compliance")
    verdict = _verdict(state, state["draft"], before["findings"] if before else [])
    update: dict[str, Any] = {"compliance": verdict}
    if verdict["passed"] and not before and _is_trivial(state):
        update["decision"] = Decision(type="auto", note=None)
    return update


def _verdict(state: State, reply: str | None, sent_back_for: list[Finding]) -> Compliance:
    findings = check_reply(reply or "", state["policy"] or [])
    return Compliance(passed=not findings, findings=findings, sent_back_for=sent_back_for)


def _is_trivial(state: State) -> bool:
    policies = state["policy"] or []
    short = len(customer_text(state["messages"])) <= MAX_TRIVIAL_CHARACTERS
    # A decision means that a reviewer has the case already.
    return short and bool(policies) and all(p["auto_reply"] for p in policies) and not state.get("decision")


async def human_approval(state: State) -> dict[str, Any]:
    """Wait for a reviewer; an answer that cannot be used comes back here, to ask again and say why."""
    # Nothing here may have an effect: a resume runs this node again from its top.
    answer = interrupt(ask(state))
    try:
        decision, changes = read_answer(answer)
    except UnusableAnswerError as error:
        # Through the graph and not in a loop here: the reason is in the thread for callers to read, and no
        # resume replays the unusable answers before it.
        return {"decision": Decision(type="unusable", note=str(error))}
    update: dict[str, Any] = {"decision": decision, **changes}
    if decision["type"] == "edit":
        update["compliance"] = _verdict(state, changes["draft"], [])  # on record; the reviewer has the say
    if decision["type"] == "response":
        update["compliance"] = None
    return update


async def send_reply(state: State, runtime: Runtime[None]) -> dict[str, Any]:
    """Send the reply, once however often this node runs."""
    reply = state["draft"] or ""
    info = runtime.execution_info
    thread_id = info.thread_id if info else None

    async def send(key: str) -> dict[str, Any]:
        if runtime.store is not None:
            await runtime.store.aput(SENT, key, {"reply": reply, "thread_id": thread_id}, index=False)
        return {"key": key}

    sent = await once(runtime, "send_reply", send)
    found = {**_outcome(state), "sent": True, "text": reply, "key": sent["key"]}
    return {"result": {"reply": found}, "messages": [AIMessage(reply, id=sent["key"], name="support")]}


async def leave_unanswered(state: State) -> dict[str, Any]:
    """Say that the reviewer chose to send nothing."""
    says = "No reply was sent: the reviewer left this message unanswered."
    found = {**_outcome(state), "sent": False, "text": None, "key": None}
    return {"result": {"reply": found}, "messages": [AIMessage(says, name="note")]}


def _outcome(state: State) -> dict[str, Any]:
    decision, compliance = state.get("decision"), state.get("compliance")
    return {
        "decision": decision["type"] if decision else None,
        "category": state["category"],
        "policies": [policy["id"] for policy in state["policy"] or []],
        "findings": compliance["findings"] if compliance else [],
    }


def after_compliance(state: State) -> str:
    """Send a draft with findings back, once; a human sees what the second one still breaks."""
    verdict = state["compliance"]
    return "draft" if verdict and verdict["findings"] and not verdict["sent_back_for"] else END


def after_writing(state: State) -> Literal["send_reply", "human_approval"]:
    """Only a trivial reply goes without a human."""
    decision = state.get("decision")
    return "send_reply" if decision and decision["type"] == "auto" else "human_approval"


def after_approval(state: State) -> str:
    """Do what the reviewer decided."""
    decision = state.get("decision")
    return _NEXT[decision["type"]] if decision else "human_approval"


_NEXT: Final = {
    "accept": "send_reply",
    "auto": "send_reply",
    "edit": "send_reply",
    "response": "writer",
    "ignore": "leave_unanswered",
    "unusable": "human_approval",
}


def _triage() -> CompiledStateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    graph.add_node("classify", classify, retry_policy=TRANSIENT_RETRY, timeout=MODEL_TIMEOUT_SECONDS)
    graph.add_node("look_up_policy", look_up_policy)
    graph.add_edge(START, "classify")
    graph.add_edge("classify", "look_up_policy")
    return graph.compile(name="triage")


def _writer() -> CompiledStateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    graph.add_node("draft", draft, retry_policy=TRANSIENT_RETRY, timeout=MODEL_TIMEOUT_SECONDS)
    graph.add_node("check_compliance", check_compliance)
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "check_compliance")
    graph.add_conditional_edges("check_compliance", after_compliance, ["draft", END])
    return graph.compile(name="writer")


def _desk() -> CompiledStateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    graph.add_node("intake", intake_node(check_input, accepted="triage"), destinations=("triage", END))
    graph.add_node("triage", _triage())
    graph.add_node("writer", _writer())
    graph.add_node("human_approval", human_approval)
    graph.add_node("send_reply", send_reply, retry_policy=TRANSIENT_RETRY, timeout=TOOL_TIMEOUT_SECONDS)
    graph.add_node("leave_unanswered", leave_unanswered)
    graph.add_edge(START, "intake")
    graph.add_edge("triage", "writer")
    graph.add_conditional_edges("writer", after_writing)
    graph.add_conditional_edges("human_approval", after_approval, sorted(set(_NEXT.values())))
    graph.add_edge("send_reply", END)
    graph.add_edge("leave_unanswered", END)
    return graph.compile(name="support")


graph = _desk()
