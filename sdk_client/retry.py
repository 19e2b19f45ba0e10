"""When and how long to try again; the only place in the client that does.

Transient, so worth another attempt: every transport fault (refused, reset, cut, timed out), an answer that
is not what the server sends (a proxy's page), and the statuses 408, 425, 429, 500, 502, 503, 504. A 500
counts although it can be a bug, because it is also what a server says whose database connection has just
died. Whether a *create* may be sent again is not decided here but in `submission.py`, by a look-up.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import h11
import httpx
import orjson
import stamina
from langgraph_sdk.errors import APIStatusError

from sdk_client.errors import ConfigurationError
from sdk_client.turns import Turns

T = TypeVar("T")

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
# Faults before the first byte of the request has left: the server cannot have seen it.
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How persistent one call is: by time, and by attempts where they are bounded too.

    These defaults are the only ones: the settings read from the environment take theirs from here.
    """

    attempts: int | None = None
    """Attempts in all, the first one included. None: time is the only bound, since how many attempts fit
    into an outage says nothing about how long it lasts."""
    deadline_seconds: float = 120.0
    """From the first attempt to the end of the last one; a request in flight is given up when it passes.
    Three times what a server needs to be stopped and started again. It does not bound `Client.join` and
    `Client.watch`, which wait for a run: they end at the caller's own deadline."""
    base_delay_seconds: float = 0.2
    """The upper bound of the first pause; it doubles with each attempt."""
    max_delay_seconds: float = 3.0
    """The upper bound of every pause, so that a server that is back is found soon. The pause itself is
    drawn evenly from zero to the bound (full jitter)."""
    max_retry_after_seconds: float = 30.0
    """A `Retry-After` of the server is honoured up to this; one that asks for more is cut to it."""

    def __post_init__(self) -> None:
        """Refuse a policy that could never work."""
        if self.attempts is not None and self.attempts < 1:
            raise ConfigurationError(f"RetryPolicy.attempts is {self.attempts}; it must be at least 1.")
        if self.deadline_seconds <= 0:
            raise ConfigurationError("RetryPolicy.deadline_seconds must be more than 0.")
        if not 0 <= self.base_delay_seconds <= self.max_delay_seconds:
            raise ConfigurationError("RetryPolicy needs 0 <= base_delay_seconds <= max_delay_seconds.")
        if self.max_retry_after_seconds < 0:
            raise ConfigurationError("RetryPolicy.max_retry_after_seconds must not be negative.")

    def delay_seconds(self, attempt: int) -> float:
        """Draw the pause after the given attempt (counted from 1)."""
        bound = min(self.max_delay_seconds, self.base_delay_seconds * 2 ** min(attempt - 1, 32))
        return random.uniform(0, bound)  # noqa: S311 (spreads load, protects nothing)

    def pause_seconds(self, error: Exception, attempt: int) -> float | None:
        """Say how long to wait before trying again after this error; None means not to."""
        if not is_transient(error):
            return None
        asked = retry_after_seconds(error)
        if asked is None:
            return self.delay_seconds(attempt)
        return min(asked, self.max_retry_after_seconds)


class GaveUpError(Exception):
    """The last attempt failed, or the error was not one to retry. Internal: `transport.py` translates it."""

    def __init__(self, cause: Exception, attempts: int) -> None:
        """Keep the last error and how many attempts were made."""
        super().__init__(f"gave up after {attempts} attempt(s)")
        self.cause = cause
        self.attempts = attempts


def status_of(error: Exception) -> int | None:
    """Read the HTTP status that an error of the SDK or of httpx carries."""
    if isinstance(error, APIStatusError | httpx.HTTPStatusError):
        return error.response.status_code
    return None


def is_transient(error: Exception) -> bool:
    """Tell whether the same request may succeed a moment later."""
    status = status_of(error)
    if status is not None:
        return status in TRANSIENT_STATUSES
    if isinstance(error, httpx.UnsupportedProtocol):
        return False
    # h11's own errors leak through httpx when a connection is cut in the middle of a body.
    return isinstance(error, httpx.TransportError | h11.ProtocolError | orjson.JSONDecodeError)


def may_have_arrived(error: Exception) -> bool:
    """Tell whether the server may have acted on the request although this error came back."""
    status = status_of(error)
    if status is not None:
        return status not in (425, 429) and (status >= 500 or status == 408)
    return not isinstance(error, NEVER_SENT)


def retry_after_seconds(error: Exception) -> float | None:
    """Read `Retry-After`, in seconds or as an HTTP date; None where it is absent or unreadable."""
    if not isinstance(error, APIStatusError | httpx.HTTPStatusError):
        return None
    text = error.response.headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass  # not a number, so it must be a date
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


async def call_with_retries(
    operation: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    deadline_seconds: float | None = None,
    turns: Turns | None = None,
) -> T:
    """Call until it works, the error is not transient, or the policy runs out.

    Args:
        operation: Makes one attempt; called anew each time.
        policy: Attempts, pauses and the deadline.
        deadline_seconds: Another deadline than the policy's; `math.inf` for none.
        turns: Taken for each attempt. Queueing for one is not the server's doing, so as much of it as the
            deadline is long does not count towards the deadline.

    Raises:
        GaveUpError: With the last error as its cause; a TimeoutError where the deadline cut an attempt off.
    """
    deadline = policy.deadline_seconds if deadline_seconds is None else deadline_seconds
    started = time.monotonic()
    attempts, queued_seconds = 0, 0.0

    def left() -> float:
        return deadline - (time.monotonic() - started - queued_seconds)

    def hook(error: Exception) -> bool | float:
        pause = policy.pause_seconds(error, attempts)
        # A pause that outlasts the deadline is only a slower way to fail.
        if pause is None or pause >= left():
            return False
        return pause

    try:
        async for attempt in stamina.retry_context(on=hook, attempts=policy.attempts, timeout=None):
            with attempt:
                attempts = attempt.num
                queued_at = time.monotonic()
                async with turns.take(deadline - queued_seconds) if turns else nullcontext():
                    queued_seconds = min(deadline, queued_seconds + time.monotonic() - queued_at)
                    async with asyncio.timeout(None if math.isinf(deadline) else max(0.0, left())):
                        return await operation()
    except Exception as error:
        raise GaveUpError(error, attempts) from error
    raise AssertionError("stamina yields an attempt or raises")
