"""Answers that are whole but of no use, and conversations that a provider would refuse at every later turn.

The agents run in this process, with the providers' real clients, and stream as they do for a front end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from starlette.responses import StreamingResponse

from graphs.analytics.graph import graph as analytics
from graphs.kit.failures import ModelFailedError
from graphs.projects.graph import graph as projects
from tests.providers.answers import Answer, Asked, Call, Fault, Mind, obeys
from tests.providers.anthropic_fake import AnthropicFake
from tests.providers.openai_fake import OpenAIFake
from tests.providers.runs import MODELS, Fake

DONE = Answer(text="Done.")
PLAN: dict[str, Any] = {
    "start_date": "2026-03-02",
    "tasks": [{"id": "dig", "optimistic_days": 2, "likely_days": 3, "pessimistic_days": 6}],
}
TABLE = {"data": {"csv": "region,price\nNorth,10.5\nSouth,25"}}


@pytest.fixture(params=list(MODELS))
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fake(
    provider: str,
    openai: tuple[OpenAIFake, str],
    anthropic: tuple[AnthropicFake, str],
    model_variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Fake]:
    for name, value in (model_variables | {"MODEL": MODELS[provider]}).items():
        monkeypatch.setenv(name, value)
    fake = (anthropic if provider == "anthropic" else openai)[0]
    yield fake
    fake.mind = obeys
    for kept in (fake.requests, fake.refused, fake.faults, fake.asked_at):
        kept.clear()


def in_turn(*answers: Answer) -> Mind:
    waiting = list(answers)
    return lambda asked: waiting.pop(0) if len(waiting) > 1 else waiting[0]


async def run(graph: Any, given: dict[str, Any], **context: Any) -> dict[str, Any]:
    state: dict[str, Any] = {}
    async for mode, part in graph.astream(given, stream_mode=["values", "messages"], context=context):
        state = part if mode == "values" else state
    return state


async def goes_on(graph: Any, fake: Fake, state: dict[str, Any]) -> None:
    """The next turn of the thread is answered, and the provider takes all that it is told."""
    fake.mind = in_turn(DONE)
    state = await run(graph, {**state, "messages": [*state["messages"], HumanMessage("Go on.")]})
    assert (state["problem"], state["messages"][-1].text) == (None, "Done.")
    assert not fake.refused, fake.refused[:3]


@pytest.mark.parametrize(
    ("answer", "code", "requests"),
    [
        (Answer(), "empty_answer", 3),
        (Answer(text="\n\n"), "empty_answer", 3),
        (Answer(thought="Hm."), "empty_answer", 3),
        (Answer(text="I cannot.", declined=True), "model_refused", 1),
        (Answer(text="It takes 12 d", cut=True), "answer_cut", 1),
        (Answer(calls=[Call("simulate_finish", garbled='{"by_date": "2026-0')], cut=True), "answer_cut", 3),
        (Answer(calls=[Call("multi_tool_use.parallel")]), "unreadable_tool_calls", 3),
        (Answer(calls=[Call("")]), "unreadable_tool_calls", 3),
    ],
    ids=["empty", "blank", "thought", "declined", "cut", "cut call", "odd name", "no name"],
)
async def test_an_answer_of_no_use_is_a_problem_and_breaks_no_thread(
    fake: Fake, provider: str, answer: Answer, code: str, requests: int
) -> None:
    fake.mind = in_turn(answer)
    state = await run(projects, PLAN)
    if answer.declined and provider == "openai":
        code, requests = "empty_answer", 3  # its client drops such words from a stream
    assert state["problem"]["code"] == code
    assert len(fake.requests) == state["usage"]["model_calls"] == requests
    await goes_on(projects, fake, state)


async def test_what_is_of_no_use_once_is_asked_again(fake: Fake) -> None:
    cut = Answer(calls=[Call("simulate_finish", garbled='{"by_date": "2026-03-1')], cut=True)
    fake.mind = in_turn(Answer(), cut, Answer(thought="Hm.", calls=[Call("find_critical_path")]), DONE)
    state = await run(projects, PLAN)
    assert (state["problem"], set(state["result"])) == (None, {"schedule"})
    assert "was cut off within a tool call" in json.dumps(fake.requests[2])
    await goes_on(projects, fake, state)


@pytest.mark.parametrize("call", [Call("ask_the_oracle"), Call("simulate_finish", {"by_date": ["x"]})])
async def test_calls_that_never_fitted_a_tool_are_a_problem(fake: Fake, call: Call) -> None:
    fake.mind = in_turn(Answer(calls=[call]), DONE)
    assert (await run(projects, PLAN))["problem"]["code"] == "tool_misused"
    fake.mind = in_turn(Answer(calls=[call]), Answer(calls=[Call("find_critical_path")]), DONE)
    assert (await run(projects, PLAN))["problem"] is None


@pytest.mark.parametrize(
    "history",
    [
        [AIMessage("Hello, how can I help?")],
        [HumanMessage("a"), AIMessage("b"), SystemMessage("Be brief.")],
        [HumanMessage("a"), ToolMessage("x", tool_call_id="c1")],
        [HumanMessage("a"), AIMessage([{"type": "reasoning", "id": "rs_1", "summary": []}])],
        [HumanMessage([{"type": "weird", "x": 1}]), AIMessage("I cannot read it.")],
        [HumanMessage(["a", {"type": "text", "text": "b"}]), AIMessage("c")],
    ],
    ids=["greeting", "instructions", "answer to nothing", "thought", "unknown block", "plain text in a list"],
)
async def test_what_a_client_may_have_put_into_a_thread_breaks_none(fake: Fake, history: list[Any]) -> None:
    await goes_on(projects, fake, {**PLAN, "messages": history})


@pytest.mark.parametrize(
    "block",
    [
        {"type": "file", "filename": "a.csv", "base64": ""},
        {"type": "file", "filename": "a.csv", "base64": "!!!!"},
        {"type": "file", "file": {"filename": "a.csv", "file_data": "data:text/csv;base64,"}},
        {"type": "file", "file": {"file_id": "file-123"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.csv"}},
    ],
)
async def test_an_unreadable_file_is_told_and_leaves_no_trace(fake: Fake, block: dict[str, Any]) -> None:
    state = await run(analytics, {**TABLE, "messages": [HumanMessage(["What is it?", block])]})
    assert state["problem"]["code"] == "unreadable_file"
    assert not fake.requests, "it is not the table before that is asked about"
    await goes_on(analytics, fake, state)


@pytest.mark.parametrize("status", [402, 409, 413, 422])
async def test_each_refusal_is_told_without_keys(fake: Fake, status: int) -> None:
    fake.faults = [Fault(status, message="no, sk-proj-abcdef123456")]
    with pytest.raises(ModelFailedError, match=rf"refused the request.*{status}.*no, \[key\]"):
        await run(projects, PLAN)


@pytest.mark.parametrize("cut_to", [0, 0.5])
async def test_an_answer_whose_end_is_missing_is_asked_for_again(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, cut_to: float
) -> None:
    """A proxy may close in order what was broken off; half an answer looks like a whole one then."""
    sent: list[bytes] = []
    iterate = StreamingResponse.stream_response

    async def cut(self: StreamingResponse, send: Any) -> None:
        if not sent:
            sent.extend([part if isinstance(part, bytes) else b"" async for part in self.body_iterator])

            async def some() -> Any:
                for part in sent[: int(len(sent) * cut_to)]:
                    yield part

            self.body_iterator = some()
        await iterate(self, send)

    monkeypatch.setattr(StreamingResponse, "stream_response", cut)
    fake.mind = in_turn(Answer(text="The project takes 12 days and costs 100 euros in all."))
    state = await run(projects, PLAN)
    assert state["messages"][-1].text.endswith("in all.")
    assert len(fake.requests) == 2


async def test_the_wait_in_milliseconds_is_kept(fake: Fake) -> None:
    fake.faults = [Fault(429, {"retry-after-ms": "1500"})]
    fake.mind = in_turn(DONE)
    await run(projects, PLAN)
    first, second = fake.asked_at
    assert second - first >= 1.5


async def test_sub_agents_at_once_share_the_budget(fake: Fake) -> None:
    def greedy(asked: Asked) -> Answer:
        if "analyst" in asked.tools:
            return Answer(calls=[Call("analyst", {"task": "?"})] * 4)
        return Answer(calls=[Call("profile")])

    fake.mind = greedy
    state = await run(analytics, TABLE, max_model_calls=9)
    assert state["problem"]["code"] == "budget_spent"
    assert len(fake.requests) == state["usage"]["model_calls"] <= 9


@pytest.mark.parametrize("provider", ["openai", "anthropic"], indirect=True)
async def test_what_the_client_cannot_read_is_told_as_the_models_failure(fake: Fake) -> None:
    video = {"type": "video", "base64": "AAAA", "mime_type": "video/mp4"}
    given = {**PLAN, "messages": [HumanMessage(["What is it?", video])]}
    with pytest.raises(ModelFailedError, match=r"cannot read the request.*video"):
        await run(projects, given)
    assert not fake.requests
