"""Takes over the runs of dead workers, as long as what it sees of the database can be relied on.

A lease that has run out says that its worker is dead only if the worker could have extended it. Whether it
could, nobody tells; but what kept it from the run table would have kept the sweeper from it too: an outage, a
lock, a server that stood still. So the sweeper looks at the table all the time, with the statement that would
take the runs, and takes them only after a whole lease in which every look was answered in time. Living
workers have extended their leases by then. If the sweeper itself stood still, it has seen nothing, which
comes to the same.
"""

from __future__ import annotations

import asyncio

import structlog

from langgraph_runtime_holdfast.ops.lease import now
from langgraph_runtime_holdfast.ops.runs import Runs
from langgraph_runtime_holdfast.settings import settings

logger = structlog.stdlib.get_logger(__name__)


class Sightings:
    """Since when the run table has answered every look, and in time."""

    def __init__(self, lease_seconds: float) -> None:
        """Nothing was seen yet."""
        self._lease_seconds = lease_seconds
        self._since: float | None = None
        self._last = 0.0

    def note(self, asked_at: float, answered_at: float) -> None:
        """A look was answered."""
        if answered_at - asked_at > self._lease_seconds / 4:
            self._since = None
            return
        if self._since is None or asked_at - self._last > self._lease_seconds / 2:
            self._since = asked_at
        self._last = answered_at

    def note_failure(self) -> None:
        """A look was not answered."""
        self._since = None

    def cover_a_lease(self, moment: float) -> bool:
        """Whether every worker that lives could extend its leases since they ran out."""
        if self._since is None or moment - self._last > self._lease_seconds / 2:
            return False
        return moment - self._since >= self._lease_seconds


async def sweep_on() -> None:
    """Look every quarter of a lease: a dead worker's runs thus wait for a lease and a quarter, at most."""
    lease_seconds = settings().lease_seconds
    seen = Sightings(lease_seconds)
    failing = False
    while True:
        asked_at = now()
        try:
            async with asyncio.timeout(lease_seconds / 2):
                await Runs.sweep(may_take=seen.cover_a_lease(asked_at))
            seen.note(asked_at, now())
            failing = False
        except Exception as error:
            seen.note_failure()
            if not failing:
                failing = True
                await logger.awarning("Dead workers cannot be looked for now", error=str(error))
        await asyncio.sleep(lease_seconds / 4)
