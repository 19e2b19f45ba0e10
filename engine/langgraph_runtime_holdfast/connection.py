"""Connections that do not wait for ever: a server that is silent too long counts as gone.

TCP notices many dead connections late, and some never: a proxy may keep one up that leads nowhere. The bound
is kept on this side: what the server does about its statements does not reach a client that is cut off.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.waiting import READY_R, READY_W, WAIT_R, WAIT_RW, WAIT_W

from langgraph_runtime_holdfast.availability import LimitExceededError, is_limit, refusals
from langgraph_runtime_holdfast.settings import settings

_AT_ONCE_MS: Final = 2
_INPUT: Final = select.POLLIN | select.POLLHUP | select.POLLERR
_EVENTS: Final = {
    WAIT_R: select.POLLIN,
    WAIT_W: select.POLLOUT,
    WAIT_RW: select.POLLIN | select.POLLOUT,
}


class ServerSilentError(psycopg.OperationalError):
    """Postgres has not answered in time; its connection is given up, and what it was asked may yet happen."""

    def __init__(self, seconds: float) -> None:
        """Name the time."""
        super().__init__(f"Postgres has not answered within {seconds:g} s; the connection is given up")


def quick_seconds() -> float:
    """How long the server may take for what every run does, which takes it milliseconds.

    Well within a lease, so that a worker that is cut off begins anew while it still has its runs.
    """
    return settings().lease_seconds * 0.3


class Connection(AsyncConnection[DictRow]):
    """A pool's connection."""

    checked_at = 0.0
    """When it was last found alive."""
    patience_seconds: float | None = None
    """How long the server may take for an answer; HOLDFAST_STATEMENT_SECONDS if not set."""
    owns_thread: bool = False
    """Its loop has a thread of its own and one job, so that it may block for a moment."""
    on_silence: Callable[[], Awaitable[None]] | None = None
    """Called when this connection is given up: others of its pool will be no better."""

    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> Self:
        """Connect; the pool does it in the background and tells nobody what it was refused with."""
        try:
            made = await super().connect(*args, **kwargs)
        except psycopg.Error as error:
            refusals.note(error)
            raise
        refusals.note_success()
        return made

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """Wait for the server's answer.

        Raises:
            ServerSilentError: It did not come in time.
            LimitExceededError: Instead of an OperationalError, which would be tried again.
        """
        patience = timeout or self.patience_seconds or settings().statement_seconds
        try:
            if self.owns_thread:
                gen = self._begun(gen)
            return await super().wait(gen, interval, patience)
        except psycopg.errors._WaitTimeout as error:
            if timeout is not None:  # the library's own bound
                raise
            self.pgconn.finish()
            if self.on_silence is not None:
                await self.on_silence()
            raise ServerSilentError(patience) from error
        except psycopg.OperationalError as error:
            if not is_limit(error):
                raise
            raise LimitExceededError(str(error)) from error

    def _begun(self, gen: Any) -> Any:
        """Wait for what comes at once without the loop, which takes several changes of threads.

        What takes longer is left to the loop: this generator goes on where the waiting ended.
        """
        poll = select.poll()
        try:
            wanted = next(gen)
            while True:
                poll.register(self.pgconn.socket, _EVENTS[wanted])
                ready = 0
                for _, events in poll.poll(_AT_ONCE_MS):
                    ready |= READY_R if events & _INPUT else 0
                    ready |= READY_W if events & select.POLLOUT else 0
                wanted = gen.send(ready or (yield wanted))
        except StopIteration as end:
            return end.value


class ThreadConnection(psycopg.Connection[DictRow]):
    """A connection for a thread, which never waits longer than `quick_seconds`."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for the server's answer.

        Raises:
            ServerSilentError: It did not come in time.
        """
        try:
            return super().wait(gen, interval, timeout or quick_seconds())
        except psycopg.errors._WaitTimeout as error:
            if timeout is not None:
                raise
            self.pgconn.finish()
            raise ServerSilentError(quick_seconds()) from error
