"""What `holdfast new` writes, with the real clients of the providers, on job loops of either kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from sdk_client.scaffold.origin import find_origin
from sdk_client.scaffold.project import FIRST_AGENT, Kind, add_agent, make_project
from tests.contract.api import Sdk
from tests.contract.engines import Services
from tests.providers.answers import Answer, Call, Fault, in_turn
from tests.providers.anthropic_fake import AnthropicFake
from tests.providers.conftest import both_servers
from tests.providers.openai_fake import OpenAIFake
from tests.providers.runs import MODELS, Fake, run

KEY = "a key of sixteen characters or more"
LOAN = Answer(calls=[Call("monthly_payment", {"amount": 12000, "yearly_percent": 4.5, "years": 5})])
DONE = Answer(text="It is done.")
# The agent, what the model decides, and the message before its last one.
EACH_KIND = {
    FIRST_AGENT: ([LOAN, DONE], "223.72 a month"),
    "outing": (
        [
            Answer(calls=[Call("ask_budget", {"task": "340 for 8?"})]),
            Answer(calls=[Call("share", {"total": 340, "people": 8})]),
            Answer(text="Each pays 42.50."),
            DONE,
        ],
        "Each pays 42.50.",
    ),
    "letters": ([Answer(calls=[Call("send_message", {"to": "kim@example.org", "text": "Late."})]), DONE], ""),
}
AT_ONCE = 8


@pytest.fixture(scope="module")
def urls(
    services: Services, model_variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Both kinds of server, with a project that has an agent of each kind."""
    folder = tmp_path_factory.mktemp("made") / "my-desk"
    make_project(folder, Kind.TOOLS, find_origin(str(Path(__file__).parents[2])))
    add_agent(folder, "outing", Kind.SUPERVISOR)
    add_agent(folder, "letters", Kind.APPROVAL)
    variables = {**model_variables, "HOLDFAST_API_KEY": KEY, "LG_WEBHOOK_TOKEN": KEY}
    with both_servers(services, variables, tmp_path_factory, folder, "made_") as started:
        yield started


@pytest.fixture(params=["shared", "isolated"])
async def sdk(urls: dict[str, str], request: pytest.FixtureRequest) -> AsyncIterator[Sdk]:
    async with httpx.AsyncClient(
        base_url=urls[request.param], headers={"x-api-key": KEY}, timeout=60.0
    ) as http:
        yield LangGraphClient(http)


@pytest.fixture(params=["openai", "anthropic"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fake(provider: str, openai: tuple[OpenAIFake, str], anthropic: tuple[AnthropicFake, str]) -> Fake:
    """The provider of this test."""
    return (anthropic if provider == "anthropic" else openai)[0]


@pytest.fixture
def context(provider: str) -> dict[str, Any]:
    return {"model": MODELS[provider]}


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize("agent", list(EACH_KIND))
async def test_each_kind_of_agent_answers(sdk: Sdk, fake: Fake, context: dict[str, Any], agent: str) -> None:
    minds, told = EACH_KIND[agent]
    fake.mind = in_turn(*minds)
    thread_id = (await sdk.threads.create())["thread_id"]
    ended = await run(sdk, agent, said("Go."), context, thread_id=thread_id)
    if agent == "letters":
        command: Any = {"resume": {"decisions": [{"type": "approve"}]}}
        values: Any = await sdk.runs.wait(thread_id, agent, command=command, context=context)
        told = "sent to kim@example.org"
    else:
        values = ended.values
    assert ended.error is None
    assert not fake.refused, fake.refused[:3]
    assert told in str(values["messages"][-2]["content"])
    assert values["usage"]["model_calls"] == len(fake.requests) == len(minds)
    assert values["usage"]["input_tokens"] > 0


async def test_runs_at_once_each_end_well(sdk: Sdk, fake: Fake, context: dict[str, Any]) -> None:
    fake.mind = lambda asked: DONE if asked.results else LOAN
    ended = await asyncio.gather(*(run(sdk, FIRST_AGENT, said("?"), context) for _ in range(AT_ONCE)))
    assert [each.error for each in ended] == [None] * AT_ONCE
    assert {each.said for each in ended} == {"It is done."}


async def test_the_wait_that_a_provider_asks_for_is_kept(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    fake.faults = [Fault(429, {"retry-after": "1"})]
    fake.mind = in_turn(DONE)
    assert (await run(sdk, FIRST_AGENT, said("?"), context)).said == "It is done."
    first, second = fake.asked_at
    assert second - first >= 1


async def test_a_cut_stream_and_an_error_within_one_are_tried_again(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    fake.faults = [Fault(), Fault(503), Fault(200)]
    fake.mind = in_turn(DONE)
    assert (await run(sdk, FIRST_AGENT, said("?"), context)).said == "It is done."


async def test_an_unreadable_call_is_made_again(sdk: Sdk, fake: Fake, context: dict[str, Any]) -> None:
    unreadable = Answer(calls=[Call("monthly_payment", garbled='{"amount": 12')])
    fake.mind = in_turn(unreadable, LOAN, DONE)
    ended = await run(sdk, FIRST_AGENT, said("?"), context)
    assert not fake.refused, fake.refused[:3]
    assert (ended.error, ended.said, len(fake.requests)) == (None, "It is done.", 3)


async def test_a_model_that_never_stops_calling_is_stopped(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    fake.mind = in_turn(LOAN)
    thread_id = (await sdk.threads.create())["thread_id"]
    for _ in range(2):  # the bound is a run's, not the thread's
        limited = context | {"max_model_calls": 3}
        ended = await run(sdk, FIRST_AGENT, said("?"), limited, thread_id=thread_id)
        assert ended.error is None
        assert ended.values["problem"]["code"] == "budget_spent"
        assert ended.values["usage"]["model_calls"] == 3
    assert len(fake.requests) == 6


async def test_a_thread_that_was_left_at_a_pause_goes_on(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    fake.mind = in_turn(*EACH_KIND["letters"][0])
    thread_id = (await sdk.threads.create())["thread_id"]
    assert (await run(sdk, "letters", said("Go."), context, thread_id=thread_id)).error is None
    ended = await run(sdk, "letters", said("Leave it."), context, thread_id=thread_id)
    assert (ended.error, ended.said) == (None, "It is done.")
    assert not fake.refused, fake.refused[:3]


async def test_a_refused_key_is_told_and_the_thread_goes_on(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    fake.mind = in_turn(LOAN)
    fake.faults = [None, Fault(401)]
    thread_id = (await sdk.threads.create())["thread_id"]
    ended = await run(sdk, FIRST_AGENT, said("?"), context, thread_id=thread_id)
    assert ended.error is not None
    assert "refused the server's key" in ended.error["message"]
    fake.mind = in_turn(DONE)
    assert (await run(sdk, FIRST_AGENT, said("?"), context, thread_id=thread_id)).said == "It is done."
    assert not fake.refused, fake.refused[:3]


async def test_without_a_model_the_script_answers_word_by_word(sdk: Sdk) -> None:
    pieces = []
    modes: Any = ["messages-tuple"]
    thread_id = (await sdk.threads.create())["thread_id"]
    question = said("What does a loan of 12000 at 4.5 % over 5 years cost a month?")
    async for part in sdk.runs.stream(thread_id, FIRST_AGENT, input=question, stream_mode=modes):
        if part.event == "messages" and part.data[0]["type"] == "AIMessageChunk":
            pieces += [part.data[0]["content"]] if part.data[0]["content"] else []
    assert "".join(pieces).startswith("That loan costs 223.72 a month")
    assert len(pieces) > 5


async def test_a_turn_in_which_nothing_is_said_is_answered(sdk: Sdk) -> None:
    ended = await run(sdk, FIRST_AGENT, {"messages": []}, {})
    assert ended.error is None
    assert ended.values["problem"]["code"] == "nothing_said"
