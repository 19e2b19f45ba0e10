"""The most of it that was in use: the servers' memory, and their connections to Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil
import psycopg

from langgraph_runtime_holdfast.budget import plan
from tests.faults.rig.postgres import Postgres
from tests.faults.rig.server import Server

JOBS_OF_A_SERVER = 10
BACKENDS_OF_A_SERVER = plan(jobs=JOBS_OF_A_SERVER, isolated=False, bound=None, share=None).total
"""What a server says at its start that it takes, at its default settings."""
_EVERY_SECONDS = 0.5
_BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast'"


class Gauge:
    """Looks twice a second."""

    def __init__(self, servers: Sequence[Server], postgres: Callable[[], Postgres]) -> None:
        """Name who is looked at; `start()` begins."""
        self.memory_mb = 0.0
        """The most that one server had."""
        self.backends = 0
        """The most that all servers had together."""
        self._servers = servers
        self._postgres = postgres
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._look_on())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look_on(self) -> None:
        while True:
            for server in self._servers:
                with suppress(psutil.Error):
                    self.memory_mb = max(self.memory_mb, server.process.memory_info().rss / 1e6)
            with suppress(psycopg.Error):
                ((count,),) = await self._postgres().ask(_BACKENDS)
                self.backends = max(self.backends, int(count))
            await asyncio.sleep(_EVERY_SECONDS)
