"""The project's own agents with the real clients of the providers: each of their tools, and each fault."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from blockbuster import blockbuster_ctx
from langgraph.checkpoint.memory import InMemorySaver
from langgraph_sdk.client import LangGraphClient

from graphs.projects.graph import graph as projects
from graphs.support.graph import graph as support
from tests.contract.api import Sdk
from tests.contract.conftest import plain_http
from tests.contract.engines import Services
from tests.providers.answers import Answer, Asked, Call, Fault, in_turn
from tests.providers.anthropic_fake import AnthropicFake
from tests.providers.openai_fake import OpenAIFake
from tests.providers.runs import MODELS, Fake, run

EXAMPLES = Path(__file__).parents[2] / "graphs" / "examples"
# What a model would say to a tool; those that are not here take no arguments.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "geometer": {"task": "Inspect and orient it."},
    "estimator": {"task": "Estimate 4 copies in PETG."},
    "estimate_print": {"material": "PETG", "copies": 4},
    "analyst": {"task": "Orders by region?"},
    "query": {"sql": "SELECT region, count(*) AS orders FROM data GROUP BY 1"},
}
SECTIONS = {
    "projects": {"schedule", "finish", "gantt"},
    "trials": {"design", "survival", "interim"},
    "formulation": {"blend", "batch"},
    "printing": {"inspection", "orientation", "estimate"},
    "analytics": {"profile", "table", "chart"},
}


EACH_PROTOCOL = pytest.mark.parametrize("provider", list(MODELS))


@pytest.fixture(params=["openai", "anthropic"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def context(provider: str) -> dict[str, Any]:
    """What an assistant on this provider has as its context."""
    return {"model": MODELS[provider]}


@pytest.fixture
def fake(provider: str, openai: tuple[OpenAIFake, str], anthropic: tuple[AnthropicFake, str]) -> Fake:
    """The provider of this test."""
    fake = (anthropic if provider == "anthropic" else openai)[0]
    fake.mind = curious
    return fake


@pytest.fixture
async def sdk(server_urls: dict[str, str]) -> AsyncIterator[Sdk]:
    async with plain_http(server_urls["shared"]) as http:
        yield LangGraphClient(http)


def example(agent: str) -> dict[str, Any]:
    given: dict[str, Any] = json.loads((EXAMPLES / f"{agent}.json").read_text(encoding="utf-8"))
    return given


def curious(asked: Asked) -> Answer:
    """Call each tool that is offered, one after the other; then report."""
    if len(asked.results) == len(asked.tools):
        return Answer(text=f"In short: {asked.results[-1]}")
    tool = asked.tools[len(asked.results)]
    return Answer(calls=[Call(tool, ARGUMENTS.get(tool, {}))])


def clumsy(asked: Asked) -> Answer:
    """The same, after a call of a tool that is not there."""
    if not asked.results:
        return calls(Call("ask_the_oracle"))
    return curious(replace(asked, results=asked.results[1:]))


def calls(*wanted: Call) -> Answer:
    return Answer(calls=wanted)


DONE = Answer(text="Done.")
AT_ONCE = 12


@EACH_PROTOCOL
@pytest.mark.parametrize("agent", list(SECTIONS))
async def test_every_tool_of_every_agent(sdk: Sdk, fake: Fake, context: dict[str, Any], agent: str) -> None:
    ended = await run(sdk, agent, example(agent), context)
    assert ended.error is None
    assert not fake.refused, fake.refused[:3]
    assert ended.values.get("problem") is None
    assert set(ended.values["result"]) == SECTIONS[agent]
    assert ended.said.startswith("In short: ")
    usage = ended.values["usage"]
    assert usage["model_calls"] == len(fake.requests)
    assert usage["tool_calls"] >= len(SECTIONS[agent])
    assert usage["input_tokens"] > usage["output_tokens"] > 0
    assert await survives(sdk, fake, agent, context)


async def survives(sdk: Sdk, fake: Fake, agent: str, context: dict[str, Any]) -> bool:
    """Run an agent whose model errs, behind a provider that is busy and then breaks off."""
    fake.mind, before = clumsy, len(fake.requests)
    fake.faults = [Fault(429, {"retry-after": "0.1"}), None, Fault()]
    ended = await run(sdk, agent, example(agent), context)
    assert (ended.error, ended.values.get("problem")) == (None, None)
    assert not fake.refused, fake.refused[:3]
    assert set(ended.values["result"]) == SECTIONS[agent]
    answered = len(fake.requests) - before - 1  # all but the one whose answer was broken off
    return bool(ended.values["usage"]["model_calls"] == answered)


async def test_support_asks_the_model_and_then_a_human(sdk: Sdk, fake: Fake, context: dict[str, Any]) -> None:
    fake.mind = in_turn(Answer(text="refunds"), Answer(text="We are sorry. [REF-1]"))
    fake.faults = [Fault(429, {"retry-after": "0.1"})]
    ended = await run(sdk, "support", example("support"), context)
    assert ended.error is None
    assert not fake.refused, fake.refused[:3]
    assert ended.values["draft"] == "We are sorry. [REF-1]"
    assert ended.values["usage"]["model_calls"] == len(fake.requests) >= 2
    fake.faults = [Fault(401)]
    ended = await run(sdk, "support", example("support"), context)
    assert ended.error is not None
    assert "refused the server's key" in ended.error["message"]


def sorts(category: str) -> Answer:
    return calls(Call("Sorted", {"category": category, "wish": None}))


@EACH_PROTOCOL
async def test_support_sorts_in_a_shape_that_the_model_has_to_keep_to(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    fake.mind = in_turn(sorts("gossip"), sorts("complaint"), Answer(text="We are sorry. [REF-1]"))
    ended = await run(sdk, "support", example("support"), context)
    assert (ended.error, ended.values["category"]) == (None, "complaint")
    assert "the category must be one of" in json.dumps(fake.requests[1])
    assert ended.values["usage"]["model_calls"] == len(fake.requests) == 3
    for wrong in (sorts("gossip"), calls(Call("Sorted", garbled="complaint")), calls(Call("ask_an_oracle"))):
        fake.requests.clear()
        fake.mind = in_turn(*[wrong] * 3, Answer(text="We are sorry. [REF-1]"))
        ended = await run(sdk, "support", example("support"), context)
        # A human reads what it comes to.
        assert (ended.error, ended.values["category"], len(fake.requests)) == (None, "other", 4)
        assert ended.values["draft"] == "We are sorry. [REF-1]"
    assert not fake.refused, fake.refused[:3]


@EACH_PROTOCOL
async def test_a_draft_that_is_cut_or_none_comes_to_the_reviewer_at_once(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    for answer, kept, requests, told in (
        (Answer(text="We are sorry [REF-1] and", cut=True), "We are sorry [REF-1] and", 2, "cut off"),
        (Answer(), "", 4, "empty answer"),
    ):
        fake.requests.clear()
        fake.mind = in_turn(sorts("complaint"), *[answer] * 3)
        ended = await run(sdk, "support", example("support"), context)
        assert (ended.error, len(fake.requests)) == (None, requests)
        assert ended.values["draft"] == kept
        assert told in ended.values["compliance"]["findings"][0]
        assert ended.values["__interrupt__"]
    assert not fake.refused, fake.refused[:3]


async def test_supports_limits_are_kept(sdk: Sdk, fake: Fake, context: dict[str, Any]) -> None:
    for limit, spent in (({"max_model_calls": 1}, 1), ({"max_tokens": 1}, 1)):
        fake.requests.clear()
        fake.mind = in_turn(sorts("complaint"), Answer(text="We are sorry. [REF-1]"))
        ended = await run(sdk, "support", example("support"), context | limit)
        assert ended.error is None
        assert ended.values["problem"]["code"] == "budget_spent"
        assert ended.values["problem"]["message"] in ended.said
        assert ended.values["usage"]["model_calls"] == len(fake.requests) == spent


@pytest.fixture
def with_fallback(model_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment on OpenAI's fake, and on Anthropic's when that one fails."""
    models = {"MODEL": MODELS["openai"], "MODEL_FALLBACK": MODELS["anthropic"]}
    for name, value in (model_variables | models).items():
        monkeypatch.setenv(name, value)


async def test_support_has_the_fallback_too(
    openai: tuple[OpenAIFake, str],
    anthropic: tuple[AnthropicFake, str],
    with_fallback: None,
) -> None:
    openai[0].faults = [Fault(401), Fault(401)]
    anthropic[0].mind = in_turn(sorts("complaint"), Answer(text="We are sorry. [REF-1]"))
    graph: Any = support.builder.compile(InMemorySaver())
    state = await graph.ainvoke(example("support"), {"configurable": {"thread_id": "1"}})
    assert (state["category"], state["draft"]) == ("complaint", "We are sorry. [REF-1]")


async def test_a_sub_agents_problem_is_its_models_to_correct(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    asks, right = calls(Call("analyst", {"task": "?"})), {"sql": "SELECT 1 AS one FROM data LIMIT 1"}
    wrong = calls(Call("query", {"sql": "SELECT nothing FROM data"}))
    fake.mind = in_turn(asks, wrong, calls(Call("query", right)), DONE)
    ended = await run(sdk, "analytics", example("analytics"), context)
    assert ended.error is None
    assert (ended.values.get("problem"), ended.values["result"]["table"]["rows"]) == (None, [[1]])
    fake.mind = in_turn(asks, wrong, DONE)
    ended = await run(sdk, "analytics", example("analytics"), context)
    assert ended.values["problem"]["code"] == "sql_refused"
    assert not fake.refused, fake.refused[:3]


@pytest.mark.parametrize("provider", ["openai"])
async def test_bulk_data_is_not_copied_into_every_checkpoint(
    sdk: Sdk, fake: Fake, context: dict[str, Any], services: Services
) -> None:
    head, *orders = (EXAMPLES / "orders.csv").read_text(encoding="utf-8").splitlines()
    chance = random.Random(0)  # noqa: S311
    rows = (f"{n},{chance.choice(orders).partition(',')[2]}" for n in range(30_000))
    csv = "\n".join([head, *rows])
    given = {"data": {"csv": csv}, "messages": [{"role": "user", "content": "Orders?"}]}
    with psycopg.connect(f"{services.postgres_uri.rsplit('/', 1)[0]}/shared", autocommit=True) as database:
        size = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r'"
        before: Any = (database.execute(size).fetchone() or [0])[0]
        ended = await run(sdk, "analytics", given, context)
        after: Any = (database.execute(size).fetchone() or [0])[0]
    assert ended.error is None
    assert set(ended.values["result"]) == SECTIONS["analytics"]
    assert after - before <= 2 * len(csv)


@EACH_PROTOCOL
async def test_runs_at_once_on_loops_of_their_own_have_clients_of_their_own(
    server_urls: dict[str, str], fake: Fake, context: dict[str, Any]
) -> None:
    async with plain_http(server_urls["isolated"]) as http:
        sdk: Sdk = LangGraphClient(http)
        runs = [run(sdk, "projects", example("projects"), context) for _ in range(AT_ONCE)]
        ended = await asyncio.gather(*runs)
    assert [each.error for each in ended] == [None] * AT_ONCE
    assert all(set(each.values["result"]) == SECTIONS["projects"] for each in ended)


@EACH_PROTOCOL
@pytest.mark.parametrize(
    "wrong",
    [
        calls(Call("simulate_finish", {"by_date": "next Friday"})),
        calls(Call("simulate_finish", {"by_date": 5, "colour": "red"})),
        calls(Call("simulate_finish", garbled='{"by_date": "2026-0')),
        calls(Call("ask_the_oracle", {"task": "?"})),
        calls(*[Call("simulate_finish", {"by_date": "next Friday"})] * 2),
        calls(Call("ask_the_oracle"), Call("simulate_finish", {"by_date": "soon"})),
        calls(Call("find_critical_path"), Call("simulate_finish", garbled="by_date: soon")),
    ],
    ids=["value", "type", "garbled", "unknown", "two wrong", "two kinds", "half garbled"],
)
async def test_a_wrong_call_is_the_models_to_correct(
    sdk: Sdk, fake: Fake, context: dict[str, Any], wrong: Answer
) -> None:
    fake.mind = in_turn(wrong, calls(Call("simulate_finish", {"by_date": "2026-04-01"})), DONE)
    ended = await run(sdk, "projects", example("projects"), context)
    assert ended.error is None
    assert not fake.refused, fake.refused[:3]
    assert ended.values.get("problem") is None
    assert "2026-04-01" in ended.values["result"]["finish"]["probabilities"]
    assert (ended.said, len(fake.requests)) == ("Done.", 3)


async def test_what_the_model_does_not_correct_is_a_problem_and_the_thread_goes_on(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    wrong = calls(*[Call("simulate_finish", {"by_date": "next Friday"})] * 2)
    fake.mind = in_turn(wrong, DONE)
    thread_id = (await sdk.threads.create())["thread_id"]
    ended = await run(sdk, "projects", example("projects"), context, thread_id=thread_id)
    assert ended.values["problem"]["code"] == "invalid_date"
    fake.mind = curious
    again: dict[str, Any] = {"messages": [{"role": "user", "content": "Go on."}]}
    ended = await run(sdk, "projects", again, context, thread_id=thread_id)
    assert (ended.error, ended.values["problem"]) == (None, None)
    assert not fake.refused, fake.refused[:3]


@EACH_PROTOCOL
async def test_a_thread_whose_run_failed_amid_a_call_goes_on(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    fake.mind = in_turn(calls(Call("analyst", {"task": "?"})))
    thread_id = (await sdk.threads.create())["thread_id"]
    fake.faults = [None, Fault(401)]
    ended = await run(sdk, "analytics", example("analytics"), context, thread_id=thread_id)
    assert ended.error is not None
    assert "key" in ended.error["message"], "the sub-agent's failure is told as well"
    fake.mind = in_turn(DONE)
    ended = await run(sdk, "analytics", {"messages": ["Go on."]}, context, thread_id=thread_id)
    assert (ended.error, ended.said) == (None, "Done.")
    assert not fake.refused, fake.refused[:3]


async def test_arguments_that_stay_unreadable_end_the_run_with_a_problem(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    fake.mind = in_turn(calls(Call("simulate_finish", garbled="by_date: soon")))
    ended = await run(sdk, "projects", example("projects"), context)
    assert ended.values["problem"]["code"] == "unreadable_tool_calls"
    assert ended.values["usage"]["model_calls"] == len(fake.requests) == 3
    assert ["cannot be read" in json.dumps(body) for body in fake.requests] == [False, True, True]


@pytest.mark.parametrize(
    ("limit", "requests"), [({"max_model_calls": 4}, 4), ({"max_tool_calls": 3}, 4), ({"max_tokens": 1}, 1)]
)
async def test_a_model_that_never_stops_calling_is_stopped(
    sdk: Sdk, fake: Fake, context: dict[str, Any], limit: dict[str, int], requests: int
) -> None:
    fake.mind = in_turn(calls(Call("find_critical_path")))
    ended = await run(sdk, "projects", example("projects"), context | limit)
    assert ended.error is None
    assert ended.values["problem"]["code"] == "budget_spent"
    assert ended.values["problem"]["message"] in ended.said
    assert len(fake.requests) == ended.values["usage"]["model_calls"] == requests


@EACH_PROTOCOL
async def test_a_connection_lost_within_an_answer_is_tried_again(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    fake.faults = [Fault(), Fault(503), Fault(200)]
    ended = await run(sdk, "projects", example("projects"), context)
    assert ended.error is None
    assert set(ended.values["result"]) == SECTIONS["projects"]


async def test_the_wait_that_a_provider_asks_for_is_kept(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    # Longer than the first pause that is made where a provider asks for none.
    fake.faults = [Fault(429, {"retry-after": "2"})]
    fake.mind = in_turn(DONE)
    assert (await run(sdk, "projects", example("projects"), context)).said == "Done."
    first, second = fake.asked_at
    assert second - first >= 2


@EACH_PROTOCOL
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(401), "refused the server's key"),
        (Fault(400, message="image_url is not supported"), "image_url is not supported"),
        (Fault(404), "correct MODEL"),
        (Fault(429, {"retry-after": "600"}), "try again later"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Fault) else "",
)
async def test_a_lasting_refusal_is_told_to_the_caller(
    sdk: Sdk, fake: Fake, context: dict[str, Any], fault: Fault, says: str
) -> None:
    fake.faults = [fault]
    ended = await run(sdk, "projects", example("projects"), context)
    assert ended.error is not None
    assert ended.error["error"] == "ModelFailedError"
    assert says in ended.error["message"]
    assert len(fake.asked_at) == 1, "what lasts is not tried again"


async def test_another_model_answers_when_one_fails_and_no_client_blocks(
    openai: tuple[OpenAIFake, str],
    anthropic: tuple[AnthropicFake, str],
    with_fallback: None,
) -> None:
    openai[0].faults = [Fault(401)]
    anthropic[0].mind = in_turn(DONE)
    given = example("projects")
    with blockbuster_ctx():
        state = await projects.ainvoke(given)
    assert state["messages"][-1].text == "Done."
    assert state["usage"]["model_calls"] == 1


async def test_an_assistant_has_its_own_prompt_and_temperature(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    fake.mind = in_turn(DONE)
    settings = {"prompt": "Answer in rhymes.", "temperature": 0.3}
    assistant = await sdk.assistants.create("projects", context=context | settings)
    thread_id = (await sdk.threads.create())["thread_id"]
    await sdk.runs.wait(thread_id, assistant["assistant_id"], input=example("projects"))
    [body] = fake.requests
    assert "Answer in rhymes." in json.dumps(body)
    assert body["temperature"] == 0.3


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"temperature": 9}, "temperature"),
        ({"max_model_calls": 0}, "max_model_calls"),
        ({"model": "mistralai:large"}, "langchain-mistralai"),
    ],
)
async def test_wrong_settings_are_told_to_the_caller(sdk: Sdk, wrong: dict[str, Any], says: str) -> None:
    ended = await run(sdk, "projects", example("projects"), wrong)
    assert ended.error is not None
    assert says in ended.error["message"]


@pytest.mark.parametrize("agent", ["projects", "support"])
async def test_a_mistyped_setting_of_an_assistant_is_refused(
    sdk: Sdk, fake: Fake, context: dict[str, Any], agent: str
) -> None:
    mistyped = context | {"max_model_call": 1, "tenant": "ours", "user_id": "u"}
    assistant = await sdk.assistants.create(agent, context=mistyped)
    thread_id = (await sdk.threads.create())["thread_id"]
    values: Any = await sdk.runs.wait(thread_id, assistant["assistant_id"], input=example(agent))
    assert values["problem"]["code"] == "unknown_setting"
    assert "'max_model_call'" in values["problem"]["message"]
    assert "max_model_calls" in values["problem"]["message"]
    assert not fake.requests
