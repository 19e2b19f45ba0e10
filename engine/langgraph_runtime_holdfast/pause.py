"""The pause: while a row in the database says so, servers begin nothing by themselves.

No run is claimed, no cron fires, no callback is sent and nothing is swept, whichever server is asked, however
often it is started. Calls are answered meanwhile, and runs that they create wait. What is under way goes on.

The statements that begin something look at the row themselves, so that no server can miss it. What a process
remembers of it is only for telling.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from langgraph_runtime_holdfast.database import Executor, connect

logger = structlog.stdlib.get_logger(__name__)

IS_ON: Final = "EXISTS (SELECT FROM holdfast_pause)"
"""A condition, for the statements that begin something."""
READ: Final = "SELECT reason, since FROM holdfast_pause"
BEGIN: Final = """
WITH changed AS (UPDATE holdfast_pause SET reason = %(reason)s RETURNING 1)
INSERT INTO holdfast_pause (reason) SELECT %(reason)s WHERE NOT EXISTS (SELECT FROM changed)
"""
"""Without ON CONFLICT: in the middle of a restore there is no index yet."""
END: Final = "DELETE FROM holdfast_pause"
MORE_TIME: Final = """
UPDATE outbox SET retry_until = greatest(retry_until, now() + make_interval(secs => %(retry_seconds)s))
WHERE delivered_at IS NULL AND dead_at IS NULL
"""
"""Callbacks that could not be sent meanwhile are not given up for it."""
CURE: Final = "`holdfast resume` ends it"
_LOOK_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Pause:
    """A pause that is on."""

    reason: str
    since: datetime

    def as_json(self) -> dict[str, str]:
        """For `/ok`."""
        return {"reason": self.reason, "since": self.since.isoformat()}


_seen: Pause | None = None


def seen() -> Pause | None:
    """The pause as this process saw it last; None if it is off."""
    return _seen


async def is_on(executor: Executor) -> bool:
    """Whether it is on now."""
    return await executor.fetch_one(READ) is not None


async def watch() -> None:
    """Look at it every two seconds, and say when it begins and ends."""
    global _seen
    while True:
        try:
            async with connect() as handle:
                row: Any = await handle.fetch_one(READ, often=True)
        except Exception as error:
            await logger.adebug("The pause cannot be looked at now", error=str(error))
        else:
            now = Pause(row["reason"], row["since"]) if row else None
            before, _seen = _seen, now
            if now is not None and now != before:
                await logger.awarning(
                    f"Paused: no run, cron, callback or sweep is begun; {CURE}", **now.as_json()
                )
            elif now is None and before is not None:
                await logger.ainfo("The pause has ended")
        await asyncio.sleep(_LOOK_SECONDS)
