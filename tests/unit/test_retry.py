"""What is retried, how long, and what the server may ask for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import h11
import httpx
import pytest
import stamina

from sdk_client import ConfigurationError, RetryPolicy
from sdk_client.retry import (
    GaveUpError,
    call_with_retries,
    is_transient,
    may_have_arrived,
    retry_after_seconds,
)

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


def test_retry_after_is_honoured_within_the_bound_and_ends_the_call_beyond_it() -> None:
    policy = RetryPolicy(max_retry_after_seconds=30.0)
    assert policy.pause_seconds(status_error(429, retry_after="30"), 1) == 30.0
    assert policy.pause_seconds(status_error(429, retry_after="31"), 1) is None


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


async def test_staminas_testing_mode_removes_the_pauses() -> None:
    calls = 0

    async def fail() -> None:
        nonlocal calls
        calls += 1
        raise httpx.ReadTimeout("")

    with stamina.set_testing(True, attempts=3), pytest.raises(GaveUpError):
        await call_with_retries(fail, RetryPolicy(base_delay_seconds=5.0))
    assert calls == 3
