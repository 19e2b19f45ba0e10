"""What Valkey is told without anybody depending on it: wake-ups, stream events, cancel signals.

A Valkey that is away, or does not answer, costs one short wait; for some seconds nothing is sent to it then.
In a cluster that is so for each shard, since the nodes of the others go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from langgraph_runtime_holdfast.valkey import VALKEY_ERRORS, place

logger = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

_ANSWER_SECONDS: Final = 2.0
_REST_SECONDS: Final = 2.0
# Of a slow network.
_BYTES_A_SECOND: Final = 10_000_000

# Of the whole process: every loop talks to the same Valkey.
_away_until: dict[str, float] = {}
"""By place; it is there as long as the place is away."""


async def attempt(name: str, send: Callable[[], Awaitable[T]], *, size_bytes: int = 0) -> T | None:
    """Send something about a key; None if Valkey is away, which is logged once and never raised.

    Args:
        name: The key.
        send: Does it.
        size_bytes: What is large may take longer.
    """
    where = place(name)
    if time.monotonic() < _away_until.get(where, 0.0):
        return None
    try:
        async with asyncio.timeout(_ANSWER_SECONDS + size_bytes / _BYTES_A_SECOND):
            answer = await send()
    except VALKEY_ERRORS as error:
        is_first = not _away_until
        _away_until[where] = time.monotonic() + _REST_SECONDS
        if is_first:
            await logger.awarning(
                "Valkey is away: events are not sent, the database's poll does the rest",
                error=f"{type(error).__name__}: {error}",
            )
        return None
    was_away = _away_until.pop(where, None) is not None
    if where:
        _away_until.pop("", None)  # from before it turned out to be a cluster
    if was_away and not _away_until:
        await logger.ainfo("Valkey is back")
    return answer
