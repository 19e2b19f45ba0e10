"""Retry and time limits for nodes that leave the process.

Only transient faults are retried: what the other side may answer differently in a moment. A wrong input, a
bug, or a computation that took too long gives the same result again, so it is final at once.
"""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
from langchain_core.exceptions import ModelError
from langgraph.types import RetryPolicy

TRANSIENT_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})

MODEL_TIMEOUT_SECONDS: Final = 120.0
"""A model call streams for at most this long."""

TOOL_TIMEOUT_SECONDS: Final = 90.0
"""A tool node may compute for at most this long; `offload` limits single computations further."""


def is_transient(error: BaseException) -> bool:
    """Say whether trying the same call again may succeed.

    A chat model's error knows by itself. Else true for lost or refused connections, for the transport faults
    of httpx and of httpx2 (which the providers' clients use), and for any client library's exception that
    carries an HTTP `status_code` of TRANSIENT_STATUS or whose cause does.
    """
    if isinstance(error, ModelError):
        return error.is_retryable
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in TRANSIENT_STATUS
    # By name: httpx2 is there only where a provider's client brought it.
    if isinstance(error, ConnectionError) or "TransportError" in {
        each.__name__ for each in type(error).__mro__
    }:
        return True
    if getattr(error, "status_code", None) in TRANSIENT_STATUS:
        return True
    # Model clients wrap the transport fault in a class of their own and chain it.
    return error.__cause__ is not None and is_transient(error.__cause__)


def retry_after_seconds(error: BaseException) -> float | None:
    """How long the other side asks to wait before the next attempt, if it does."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    told = headers.get("retry-after", "")
    for name, unit_seconds in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit_seconds
        except ValueError:
            continue
        if not math.isnan(seconds):
            return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except ValueError:
        return None


TRANSIENT_RETRY: Final = RetryPolicy(
    initial_interval=0.5,
    backoff_factor=2.0,
    max_interval=8.0,
    max_attempts=4,
    jitter=True,
    retry_on=is_transient,
)
