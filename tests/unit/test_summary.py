"""Long conversations: what the model is sent, and that the transcript stays whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain.agents.middleware import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.runtime import Runtime

from graphs.kit import summary
from graphs.kit.context import Context
from graphs.kit.datafolder import EXAMPLES
from graphs.kit.failures import ModelFailedError
from graphs.kit.offline import OfflineChatModel
from graphs.kit.privacy import Redact
from graphs.projects.graph import graph as projects

pytestmark = pytest.mark.usefixtures("no_blocking")

PLAN = json.loads((EXAMPLES / "projects.json").read_text(encoding="utf-8"))
SMALL = {"summarize_past_tokens": 600, "summarize_keep_tokens": 150}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[AnyMessage]]:
    """What the model was sent in the place of each conversation."""
    calls: list[list[AnyMessage]] = []
    plain = summary.shortened

    def kept(*given: Any) -> list[AnyMessage]:
        calls.append(plain(*given))
        return calls[-1]

    monkeypatch.setattr(summary, "shortened", kept)
    return calls


async def test_a_long_thread_is_summed_up_for_the_model_and_stays_whole(sent: list[list[AnyMessage]]) -> None:
    agent: Any = projects.builder.compile(InMemorySaver())
    config: Any = {"configurable": {"thread_id": "long"}}
    for turn in range(8):
        given: Any = {**PLAN, "messages": [HumanMessage(f"Question {turn}: when is it done? " + "So? " * 40)]}
        state = await agent.ainvoke(given, config, context=SMALL)
        assert state.get("problem") is None
    said = [message.text for message in state["messages"] if isinstance(message, HumanMessage)]
    assert [text.split(":")[0] for text in said] == [f"Question {turn}" for turn in range(8)]
    assert "summary" not in state
    assert (await agent.aget_state(config)).values["summary"]["text"].startswith("human: ")
    last = sent[-1]
    assert "summed up" in last[0].text
    assert len(last) < len(state["messages"]) / 2
    for messages in sent:
        called = [call["id"] for each in messages if isinstance(each, AIMessage) for call in each.tool_calls]
        answered = [each.tool_call_id for each in messages if isinstance(each, ToolMessage)]
        assert called == answered


async def test_a_conversation_that_cannot_be_summed_up_is_sent_whole(
    sent: list[list[AnyMessage]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any) -> AIMessage:
        raise ModelFailedError("no")

    monkeypatch.setattr(summary, "_write", fails)
    agent: Any = projects
    given: Any = {**PLAN, "messages": [HumanMessage("When is it done? " * 200)]}
    state = await agent.ainvoke(given, context=SMALL)
    assert state["result"]
    assert all(messages[0].text.startswith("When") for messages in sent)


async def test_messages_that_cannot_be_cut_stay_as_they_are() -> None:
    """Answers whose calls are gone: LangChain's cut leaves nothing of such an end."""
    lost: list[AnyMessage] = [
        HumanMessage("When?", id="0"),
        *(ToolMessage("x " * 900, tool_call_id=f"gone {at}", id=f"{at}") for at in (1, 2, 3)),
    ]

    async def answer(request: ModelRequest[Any]) -> ModelResponse[Any]:
        assert request.messages == lost
        return ModelResponse(result=[AIMessage("Soon.")])

    told: Any = {"messages": lost}
    runtime: Runtime[Any] = Runtime(context=Context.model_validate(SMALL))
    request = ModelRequest(model=OfflineChatModel(), messages=lost, state=told, runtime=runtime)
    response: object = await summary.Summarize(Redact(wanted=False)).awrap_model_call(request, answer)
    command: Any = getattr(response, "command", None)
    assert command.update["summary"] is None
    assert command.update["usage"]["model_calls"] == 1, "the call that was of no use counts"


def test_figures_are_not_taken_for_cards() -> None:
    said: list[AnyMessage] = [
        HumanMessage("0.4111111111111111"),
        HumanMessage([{"type": "text", "text": "4111111111111111"}]),
        AIMessage("a@b.example"),
    ]
    told = Redact(wanted=True).redacted(said, Runtime())
    assert [each.text for each in told] == [
        "0.4111111111111111",
        "[REDACTED_CREDIT_CARD]",
        "[REDACTED_EMAIL]",
    ]
    assert Redact(wanted=True).redacted(said, Runtime(context=Context(redact_pii=False))) == said


def test_a_summary_of_what_is_gone_is_not_used() -> None:
    said: list[AnyMessage] = [HumanMessage("a", id="1"), HumanMessage("b", id="2")]
    told = summary.Summary(text="x", kept_from="2", made_after="2")
    assert [each.text for each in summary.shortened(said, told)][1:] == ["b"]
    assert summary.shortened(said[:1], told) == said[:1]
