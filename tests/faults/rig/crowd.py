"""A bystander that takes every connection that Postgres has to give."""

from __future__ import annotations

import asyncio
from types import TracebackType

import psycopg

_AT_ONCE = 8
_AGAIN_SECONDS = 0.01
_NAME = "crowd"
_END_OTHERS = f"""
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND application_name <> '{_NAME}'
"""  # noqa: S608 - a constant


class Crowd:
    """Holds all connections of a Postgres while the block lasts; whichever gets free, it takes too."""

    def __init__(self, uri: str) -> None:
        """Name the database."""
        self.held: list[psycopg.AsyncConnection] = []
        self._uri = uri
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Crowd:
        """Take what is free, and push out who is there until nobody else is."""
        self._tasks = [asyncio.create_task(self._take_on()) for _ in range(_AT_ONCE)]
        others = 1
        while others:
            await asyncio.sleep(_AGAIN_SECONDS)
            if self.held:
                cursor = await self.held[0].execute(_END_OTHERS)
                ((others,),) = await cursor.fetchall()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let them all go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(connection.close() for connection in self.held))

    async def _take_on(self) -> None:
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self._uri, autocommit=True, application_name=_NAME
                )
            except psycopg.OperationalError:  # there is none left
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self.held.append(connection)
