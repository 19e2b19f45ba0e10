"""The support agent: no reply but a trivial one leaves without a human's decision.

    START → intake → recall → classify → look_up_policy → draft ⇄ check_compliance
        → propose → human_approval → send_reply or leave_unanswered → remember → END
             ↑____feedback: draft____|

A trivial reply skips the human. A thread is one conversation; what outlasts it is in `memory.py`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Final

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

from graphs.kit.ask import Answer, ask, asker
from graphs.kit.context import Context
from graphs.kit.effects import effect_key, once
from graphs.kit.intake import intake_node
from graphs.kit.policies import MODEL_TIMEOUT_SECONDS, TOOL_TIMEOUT_SECONDS, TRANSIENT_RETRY
from graphs.kit.problems import InputProblem, Problem
from graphs.support import memory, prompts
from graphs.support.answers import read_answer
from graphs.support.policy_book import OTHER, look_up
from graphs.support.review import ACTION, check_reply, mask, proposed, question
from graphs.support.state import (
    NEW_TURN,
    State,
    asked_before,
    customer_text,
    forget_proposals,
    proposal_id,
)

SENT: Final = ("support", "sent")  # the store's namespace from which a mail or chat bridge takes replies
MAX_TRIVIAL_CHARACTERS: Final = 200  # a longer message says more than its keywords do
MAX_CUSTOMER_CHARACTERS: Final = 200

sorter = asker("sorter", prompt=prompts.SORTER, script=prompts.sort, shape=prompts.Sorted)
writer = asker("writer", prompt=prompts.WRITER, script=prompts.write)


async def check_input(state: State) -> dict[str, Any]:
    """Refuse a turn without text, or a customer's name that is none."""
    customer = state.get("customer")
    if customer is not None and not (
        isinstance(customer, str) and 0 < len(customer) <= MAX_CUSTOMER_CHARACTERS
    ):
        message = f"The 'customer' must be a text of 1 to {MAX_CUSTOMER_CHARACTERS} characters."
        raise InputProblem(
            "invalid_customer", message, "Send the id by which you know the customer, or none."
        )
    if not customer_text(state.get("messages", [])):
        cure = "Send a message with text: {'messages': [{'role': 'user', 'content': …}]}."
        raise InputProblem("empty_message", "The customer's message is empty.", cure)
    return {**NEW_TURN, "messages": forget_proposals(state["messages"])}


async def recall(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Fetch what is known of the customer, once a turn, in the name of whoever sent it."""
    room = memory.room_of(runtime, state.get("customer"))
    known = await memory.recall(runtime.store, room, mask(customer_text(state["messages"])))
    return {"room": room, "remembered": known}


async def classify(state: State, runtime: Runtime[Context]) -> Command[str]:
    """Sort the message; what the model cannot sort counts as `other`."""
    answer = await ask(sorter, mask(customer_text(state["messages"])), state, runtime)
    if problem := answer.overspent:
        return _out_of_budget(state, answer, problem)
    found = answer.shaped or prompts.Sorted(category=OTHER)
    update = {"category": found.category, "wish": found.wish and mask(found.wish), "usage": answer.usage}
    return Command(goto="look_up_policy", update=update)


async def look_up_policy(state: State) -> dict[str, Any]:
    """Copy the policies that apply into the state: what a draft is made from does not change as it waits."""
    return {"policy": look_up(customer_text(state["messages"]), state["category"])}


def is_trivial(state: State) -> bool:
    """A short question, answered by policies that need no human, and that no reviewer has yet."""
    short = len(customer_text(state["messages"])) <= MAX_TRIVIAL_CHARACTERS
    return short and all(policy["auto_reply"] for policy in state["policy"]) and not state["decision"]


async def draft(state: State, runtime: Runtime[Context]) -> Command[str]:
    """Write the reply, or write it anew after feedback or findings."""
    if is_trivial(state):
        # Nobody reads it before it leaves, so it is the policy's own words, whatever model is in use.
        plain = prompts.compose(prompts.brief({**state, "remembered": {}}))
        return Command(goto="check_compliance", update={"draft": plain})
    answer = await ask(writer, prompts.brief(state), state, runtime)
    if problem := answer.overspent:
        return _out_of_budget(state, answer, problem)
    update = {"draft": answer.text, "usage": answer.usage}
    if answer.problem is None:
        return Command(goto="check_compliance", update=update)
    # The model was asked again already where that helps, so it is the reviewer's turn, with what there is.
    reply = answer.text if answer.cut else state["draft"]
    findings = [answer.problem["message"], *check_reply(reply, state["policy"])]
    verdict = {"findings": findings, "sent_back_for": []}
    return Command(goto="propose", update={**update, "draft": reply, "compliance": verdict})


def _out_of_budget(state: State, answer: Answer, problem: Problem) -> Command[str]:
    """End the run with the problem; but a draft that is there stays the reviewer's to decide on."""
    said = f"{problem['message']} {problem['cure']}"
    if state["draft"]:
        decision = {"type": "unusable", "note": f"The draft cannot be written anew. {said}"}
        compliance = {"findings": check_reply(state["draft"], state["policy"]), "sent_back_for": []}
        kept = {"decision": decision, "compliance": compliance, "usage": answer.usage}
        return Command(goto="propose", update=kept)
    message = AIMessage(said, id=proposal_id(state["messages"]), name="note")
    return Command(goto=END, update={"problem": problem, "usage": answer.usage, "messages": [message]})


async def check_compliance(state: State) -> Command[str]:
    """Send a draft with findings back, once; a human sees what the second one still breaks."""
    before = state["compliance"].get("findings", [])
    findings = check_reply(state["draft"], state["policy"])
    verdict = {"findings": findings, "sent_back_for": before}
    # Only a trivial reply that keeps every rule goes without a human.
    onward = "send_reply" if is_trivial(state) and not findings else "propose"
    return Command(goto="draft" if findings and not before else onward, update={"compliance": verdict})


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
    answer = interrupt(question(state))
    try:
        return read_answer(answer, state["draft"])
    except ValueError as error:
        # Through the graph and not in a loop here: each question gets an id of its own to be decided by.
        return {"decision": {"type": "unusable", "note": str(error)}}


def after_approval(state: State) -> str:
    """Do what the reviewer decided."""
    steps = {"approve": "send_reply", "edit": "send_reply", "respond": "draft", "reject": "leave_unanswered"}
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


async def remember(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Keep what was decided, and what the customer wishes, for their next conversation."""
    reply = state["result"]["reply"]
    case = {
        "on": dt.datetime.now(dt.UTC).date().isoformat(),
        "asked": mask(asked_before(state["messages"])),
        "category": reply["category"],
        "decision": reply["decision"],
        "reply": mask(reply["text"] or ""),
    }
    key = effect_key(runtime, "remember")
    await memory.remember(runtime.store, state.get("room"), key, case, state.get("wish"))
    return {}


graph = (
    StateGraph(State, context_schema=Context)
    .add_node("intake", intake_node(check_input, accepted="recall"), destinations=("recall", END))
    .add_node("recall", recall, retry_policy=TRANSIENT_RETRY, timeout=TOOL_TIMEOUT_SECONDS)
    .add_node(
        "classify",
        classify,
        retry_policy=TRANSIENT_RETRY,
        timeout=MODEL_TIMEOUT_SECONDS,
        destinations=("look_up_policy", END),
    )
    .add_node("look_up_policy", look_up_policy)
    .add_node(
        "draft",
        draft,
        retry_policy=TRANSIENT_RETRY,
        timeout=MODEL_TIMEOUT_SECONDS,
        destinations=("check_compliance", "propose", END),
    )
    .add_node("check_compliance", check_compliance, destinations=("draft", "propose", "send_reply"))
    .add_node("propose", propose)
    .add_node("human_approval", human_approval)
    .add_node("send_reply", send_reply, retry_policy=TRANSIENT_RETRY, timeout=TOOL_TIMEOUT_SECONDS)
    .add_node("leave_unanswered", leave_unanswered)
    .add_node("remember", remember, retry_policy=TRANSIENT_RETRY, timeout=TOOL_TIMEOUT_SECONDS)
    .add_edge(START, "intake")
    .add_edge("recall", "classify")
    .add_edge("look_up_policy", "draft")
    .add_edge("propose", "human_approval")
    .add_conditional_edges(
        "human_approval", after_approval, ["send_reply", "draft", "leave_unanswered", "human_approval"]
    )
    .add_edge("send_reply", "remember")
    .add_edge("leave_unanswered", "remember")
    .compile(name="support")
)
