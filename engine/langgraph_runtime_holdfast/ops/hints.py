"""What Valkey is told without anybody depending on it: wake-ups, stream events, cancel signals.

A Valkey that is away, or does not answer, costs one short wait; for some seconds nothing is sent to it then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from langgraph_runtime_holdfast.valkey import VALKEY_ERRORS

logger = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

_ANSWER_SECONDS: Final = 2.0
_REST_SECONDS: Final = 2.0
# Of a slow network.
_BYTES_A_SECOND: Final = 10_000_000

# Of the whole process: every loop talks to the same Valkey.
_away_until = 0.0
_is_away = False


async def attempt(send: Callable[[], Awaitable[T]], *, size_bytes: int = 0) -> T | None:
    """Send something; None if Valkey is away, which is logged once and never raised.

    Args:
        send: Does it.
        size_bytes: What is large may take longer.
    """
    global _away_until, _is_away
    if time.monotonic() < _away_until:
        return None
    try:
        async with asyncio.timeout(_ANSWER_SECONDS + size_bytes / _BYTES_A_SECOND):
            answer = await send()
    except VALKEY_ERRORS as error:
        _away_until = time.monotonic() + _REST_SECONDS
        if not _is_away:
            _is_away = True
            await logger.awarning(
                "Valkey is away: events are not sent, the database's poll does the rest",
                error=f"{type(error).__name__}: {error}",
            )
        return None
    if _is_away:
        _is_away = False
        await logger.ainfo("Valkey is back")
    return answer
