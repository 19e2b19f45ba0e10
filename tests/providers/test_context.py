"""What the providers are sent of a conversation: a summary of its older part, and no personal data."""

# ruff: noqa: F811
from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.api import Sdk
from tests.providers.answers import Answer, Asked, Fault
from tests.providers.runs import Ended, Fake, run
from tests.providers.test_own_agents import (  # noqa: F401 - fixtures
    context,
    curious,
    example,
    fake,
    provider,
    sdk,
)

SMALL = {"summarize_past_tokens": 900, "summarize_keep_tokens": 200}
TOLD = "The user plans a house."
MAIL, CARD = "ann.b@example.com", "4111 1111 1111 1111"


def sums_up(asked: Asked) -> Answer:
    """Answer a question for a summary with one, and any other as usual."""
    return Answer(text=TOLD) if asked.user_text.startswith("Sum up") else curious(asked)


def asked_for_summaries(fake: Fake) -> list[int]:
    return [at for at, body in enumerate(fake.requests) if "Sum up this conversation" in json.dumps(body)]


class Thread:
    """A conversation with `projects`."""

    def __init__(self, sdk: Sdk, context: dict[str, Any]) -> None:
        """Take the caller's means."""
        self.sdk, self.context, self.thread_id, self.turns = sdk, context, "", 0

    async def say(self) -> Ended:
        """Ask the next question."""
        self.thread_id = self.thread_id or (await self.sdk.threads.create())["thread_id"]
        given = example("projects") if not self.turns else {}
        said = {"role": "user", "content": f"Question {self.turns}: when is it done? " + "So? " * 50}
        self.turns += 1
        return await run(
            self.sdk, "projects", {**given, "messages": [said]}, self.context, thread_id=self.thread_id
        )


async def test_a_long_thread_is_summed_up_and_its_transcript_stays_whole(
    sdk: Sdk, fake: Fake, context: dict[str, Any]
) -> None:
    fake.mind = sums_up
    thread = Thread(sdk, context | SMALL)
    for turn in range(5):
        before = len(fake.requests)
        ended = await thread.say()
        assert (ended.error, ended.values.get("problem")) == (None, None)
        assert ended.values["usage"]["model_calls"] == len(fake.requests) - before, "the summary's call too"
        said = [each["content"] for each in ended.values["messages"] if each["type"] == "human"]
        assert [text.split(":")[0] for text in said] == [f"Question {each}" for each in range(turn + 1)]
        assert TOLD not in json.dumps(ended.values)
    assert not fake.refused, fake.refused[:3]
    assert asked_for_summaries(fake)
    last = json.dumps(fake.requests[-1])
    assert TOLD in last
    assert "Question 4" in last
    assert "Question 0" not in last


@pytest.mark.parametrize("fault", [Fault(), Fault(503), Fault(401)], ids=["lost", "503", "401"])
async def test_a_failing_summary_is_tried_again_or_done_without(
    sdk: Sdk, fake: Fake, context: dict[str, Any], fault: Fault
) -> None:
    fake.mind = sums_up
    thread = Thread(sdk, context)
    for _ in range(3):
        await thread.say()
    fake.requests.clear()
    thread.context = context | SMALL
    fake.faults = [fault]
    ended = await thread.say()
    assert (ended.error, ended.values.get("problem")) == (None, None)
    # The first request of the turn was for the summary; of a refused one the fake keeps nothing.
    assert asked_for_summaries(fake)
    assert not fake.refused, fake.refused[:3]
    assert ended.said.startswith("In short: ")


async def test_an_empty_summary_is_none(sdk: Sdk, fake: Fake, context: dict[str, Any]) -> None:
    fake.mind = lambda asked: Answer(text=" ") if asked.user_text.startswith("Sum up") else curious(asked)
    thread = Thread(sdk, context | SMALL)
    for _ in range(3):
        ended = await thread.say()
    assert ended.error is None
    assert "Question 0" in json.dumps(fake.requests[-1])


@pytest.mark.parametrize(
    ("agent", "wanted", "leaves"),
    [
        ("trials", None, False),
        ("trials", False, True),
        ("support", None, False),
        ("projects", None, True),
        ("projects", True, False),
        ("analytics", True, False),
    ],
)
async def test_personal_data_leaves_only_where_that_is_wanted(
    sdk: Sdk, fake: Fake, context: dict[str, Any], agent: str, wanted: bool | None, leaves: bool
) -> None:
    said = f"I am {MAIL}. Write to [a]({MAIL}), or take {CARD}, refund me."
    fake.mind = lambda asked: curious(asked) if asked.tools else Answer(text="We are sorry. [REF-1]")
    given = {**example(agent), "messages": [{"role": "user", "content": text} for text in (said, "?")]}
    if agent == "trials":
        groups = given["survival"]["groups"]
        given["survival"]["groups"] = [MAIL if each == "control" else each for each in groups]
    ended = await run(sdk, agent, given, context | ({} if wanted is None else {"redact_pii": wanted}))
    assert ended.error is None
    sent = json.dumps(fake.requests)
    assert (MAIL in sent) == leaves
    assert (CARD in sent) == leaves
    assert ended.values["messages"][0]["content"] == said, "the transcript is the user's"
    assert not fake.refused, fake.refused[:3]
