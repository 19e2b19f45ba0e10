"""What is retried, how long, and what the server may ask for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import h11
import httpx
import pytest
import stamina

from sdk_client import ClientSettings, ConfigurationError, RetryPolicy
from sdk_client.retry import (
    GaveUpError,
    call_with_retries,
    is_transient,
    may_have_arrived,
    retry_after_seconds,
)
from sdk_client.turns import Turns

REQUEST = httpx.Request("GET", "http://server/")


def status_error(status: int, **headers: str) -> httpx.HTTPStatusError:
    answer = httpx.Response(
        status, headers={k.replace("_", "-"): v for k, v in headers.items()}, request=REQUEST
    )
    return httpx.HTTPStatusError("", request=REQUEST, response=answer)


@pytest.mark.parametrize(
    ("error", "transient", "arrived"),
    [
        (httpx.ConnectError(""), True, False),
        (httpx.ConnectTimeout(""), True, False),
        (httpx.ReadTimeout(""), True, True),
        (httpx.RemoteProtocolError(""), True, True),
        (h11.LocalProtocolError("cut"), True, True),
        (httpx.UnsupportedProtocol(""), False, False),
        (status_error(429), True, False),
        (status_error(500), True, True),
        (status_error(503), True, True),
        (status_error(404), False, False),
        (status_error(409), False, False),
        (ValueError(""), False, True),
    ],
)
def test_which_faults_are_worth_another_attempt(error: Exception, transient: bool, arrived: bool) -> None:
    assert (is_transient(error), may_have_arrived(error)) == (transient, arrived)


def test_retry_after_is_read_in_seconds_and_as_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert retry_after_seconds(status_error(503, retry_after="7")) == 7.0
    assert 15.0 < (retry_after_seconds(status_error(503, retry_after=soon)) or 0.0) <= 20.0
    assert retry_after_seconds(status_error(503, retry_after="soon")) is None
    assert retry_after_seconds(httpx.ReadTimeout("")) is None


def test_retry_after_is_honoured_within_the_bound() -> None:
    policy = RetryPolicy(max_retry_after_seconds=30.0)
    assert policy.pause_seconds(status_error(429, retry_after="30"), 1) == 30.0
    assert policy.pause_seconds(status_error(429, retry_after="31"), 1) == 30.0


def test_pauses_are_drawn_from_zero_to_a_doubling_bound() -> None:
    policy = RetryPolicy(base_delay_seconds=1.0, max_delay_seconds=4.0)
    for attempt, bound in ((1, 1.0), (2, 2.0), (3, 4.0), (9, 4.0)):
        drawn = [policy.delay_seconds(attempt) for _ in range(200)]
        assert 0.0 <= min(drawn) < bound / 4
        assert bound * 3 / 4 < max(drawn) <= bound


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"deadline_seconds": 0.0},
        {"base_delay_seconds": 9.0},
        {"max_retry_after_seconds": -1.0},
    ],
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        RetryPolicy(**wrong)  # type: ignore[arg-type]


async def test_a_pause_that_would_outlast_the_deadline_is_not_taken() -> None:
    async def fail() -> None:
        raise status_error(503, retry_after="20")

    with pytest.raises(GaveUpError) as caught:
        await call_with_retries(fail, RetryPolicy(deadline_seconds=10.0))
    assert caught.value.attempts == 1


async def test_queueing_for_a_turn_is_not_taken_for_the_servers_silence() -> None:
    turns, brief = Turns(1), RetryPolicy(deadline_seconds=0.5)

    async def answer() -> str:
        await asyncio.sleep(0.3)
        return "answer"

    # The second has queued for 0.3 s when its own 0.3 s begin.
    two = [call_with_retries(answer, brief, turns=turns) for _ in range(2)]
    assert await asyncio.gather(*two) == ["answer"] * 2


async def test_nobody_queues_for_longer_than_the_deadline() -> None:
    turns, brief = Turns(1), RetryPolicy(deadline_seconds=0.2)

    async def hang() -> None:
        await asyncio.sleep(60.0)

    async with asyncio.timeout(30.0), turns.take(1.0):
        with pytest.raises(GaveUpError):
            await call_with_retries(hang, brief, turns=turns)


async def test_what_fails_without_a_turn_does_not_seem_to_fail_for_want_of_it() -> None:
    async def fail() -> None:
        async with Turns(0).take(0.01) as has_turn:
            assert not has_turn
            raise ValueError("own")

    with pytest.raises(ValueError, match="own") as caught:
        await fail()
    assert caught.value.__context__ is None


def test_there_is_one_source_of_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ATTEMPTS", "DEADLINE_SECONDS"):
        monkeypatch.delenv(f"HOLDFAST_RETRY_{name}", raising=False)
    found = ClientSettings(HOLDFAST_URL="http://localhost:2024")  # type: ignore[arg-type]
    policy = RetryPolicy()
    assert (found.retry_attempts, found.retry_deadline_seconds) == (policy.attempts, policy.deadline_seconds)
    assert (policy.attempts, policy.deadline_seconds) == (None, 120.0)


async def test_staminas_testing_mode_removes_the_pauses() -> None:
    calls = 0

    async def fail() -> None:
        nonlocal calls
        calls += 1
        raise httpx.ReadTimeout("")

    with stamina.set_testing(True, attempts=3), pytest.raises(GaveUpError):
        await call_with_retries(fail, RetryPolicy(base_delay_seconds=3.0))
    assert calls == 3
