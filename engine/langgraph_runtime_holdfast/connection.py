"""Connections that do not wait for ever, and what becomes of a statement that is given up.

Two things may keep an answer away, and they want different cures. A server that is gone, or cut off, says
nothing to anybody: TCP notices that late, and some proxies never. So one that has been silent for a while
is asked whether it is there, and at work for this connection (`presence`); if it is not, its connections
are replaced. A server that works on, or waits for a lock, is left to it until the statement's own limit, and
then told to stop: what is given up here must not go on there, hold its locks, and be piled upon by its
repetitions.

Silence is what counts, not time: bytes that keep moving are none. The limit grows with what is sent.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Self

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.waiting import READY_R, READY_W, WAIT_R, WAIT_RW, WAIT_W

from langgraph_runtime_holdfast.availability import LimitExceededError, is_limit, refusals
from langgraph_runtime_holdfast.settings import settings

BYTES_PER_SECOND: Final = 4_000_000
"""What a statement's parameters add to its limit. A megabyte of values costs Postgres several of WAL, TOAST
and indexes, and a small cloud disk writes about 30 MB/s for all who use it."""
_CANCEL_SECONDS: Final = 1.0
_AT_ONCE_MS: Final = 2
_NOTHING_READY: Final = 0
_LAST_LOOK_SECONDS: Final = 0.01
_LONGEST_TRUST_SECONDS: Final = 3.0
_INPUT: Final = select.POLLIN | select.POLLHUP | select.POLLERR
_EVENTS: Final = {
    WAIT_R: select.POLLIN,
    WAIT_W: select.POLLOUT,
    WAIT_RW: select.POLLIN | select.POLLOUT,
}


class ServerSilentError(psycopg.OperationalError):
    """Postgres does not answer; its connection is given up, and what it was asked may yet happen."""

    def __init__(self, seconds: float) -> None:
        """Name the time."""
        super().__init__(f"Postgres has not answered within {seconds:g} s; the connection is given up")


class StatementTooSlowError(psycopg.errors.QueryCanceled):
    """Postgres is there, and a statement took too long: it was ended, and nothing of it is done."""

    def __init__(self, seconds: float) -> None:
        """Name the time."""
        super().__init__(
            f"Postgres has worked on a statement for {seconds:g} s without a word, or waited for a lock; "
            "the statement was ended (HOLDFAST_STATEMENT_SECONDS)"
        )


def quick_seconds() -> float:
    """How long what takes the server milliseconds may take.

    Well within a lease, so that a worker that is cut off begins anew while it still has its runs.
    """
    return settings().lease_seconds * 0.3


def trust_seconds() -> float:
    """How long a server may be silent before it is asked whether it is there."""
    return min(quick_seconds(), _LONGEST_TRUST_SECONDS)


def size_of(value: Any) -> int:
    """About how many bytes of parameters are sent; what is made into JSON on the way is not counted."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        return len(value)
    if isinstance(value, dict):
        return sum(size_of(each) for each in value.values())
    if isinstance(value, list | tuple):
        return sum(size_of(each) for each in value)
    return 0


class Connection(AsyncConnection[DictRow]):
    """A pool's connection."""

    checked_at = 0.0
    """When it was last found alive."""
    patience_seconds: float | None = None
    """The limit of a statement that has one of its own."""
    payload_bytes = 0
    """What was sent since the connection was taken; a commit has to bring all of it to the disk."""
    extra_seconds = 0.0
    """What is added for a statement that has much to find or to delete."""
    owns_thread: bool = False
    """Its loop has a thread of its own and one job, so that it may block for a moment."""
    may_cancel = True
    """To cancel a commit that waits for a standby would make it count as done without the standby."""
    is_direct = False
    """No pooler is in between, so that the server's process is the one that it names."""
    is_at_work: Callable[[Connection], Awaitable[bool]] | None = None
    """Asks whether the server answers anybody, and does something for this connection."""
    on_silence: Callable[[], Awaitable[None]] | None = None
    """Called when it does not: the other connections of the pool will be no better."""
    remainder: socket.socket | None = None
    """Of a connection that was given up, until the server lets go of it."""
    moved_at = 0.0
    """When bytes last moved, or were about to, of what it was asked last."""

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
            ServerSilentError: It did not come in time, and the server is gone, or does not let go.
            StatementTooSlowError: It did not come in time, and the statement was ended.
            LimitExceededError: Instead of an OperationalError, which would be tried again.
        """
        # Most answers come at once, and need not be watched while they come.
        is_watched = self.owns_thread or self.patience_seconds is not None
        self.moved_at = time.monotonic()
        if is_watched:
            gen = self._watched(gen)
        try:
            return await super().wait(gen, interval, timeout or self.patience_seconds or trust_seconds())
        except psycopg.errors._WaitTimeout:
            if timeout is not None:  # the library's own bound
                raise
        except psycopg.OperationalError as error:
            if not is_limit(error):
                raise
            raise LimitExceededError(str(error)) from error
        try:
            return await self._answer(gen if is_watched else self._watched(gen, has_begun=True), interval)
        except psycopg.OperationalError as error:
            if not is_limit(error):
                raise
            raise LimitExceededError(str(error)) from error

    def is_readable(self) -> bool:
        """Whether there is something to read, or the other side has closed."""
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def may_still_be_sent(self) -> bool:
        """Whether what was sent may be on its way yet, through a slow network."""
        silent_seconds = time.monotonic() - self.moved_at
        return silent_seconds < trust_seconds() + self.payload_bytes / BYTES_PER_SECOND

    def _limit_seconds(self) -> float:
        if self.patience_seconds is not None:
            return self.patience_seconds
        return settings().statement_seconds + self.payload_bytes / BYTES_PER_SECOND + self.extra_seconds

    async def _answer(self, gen: Any, interval: float) -> Any:
        """Wait for an answer that has not come as soon as most do."""
        limit, trust = self._limit_seconds(), trust_seconds()
        asked_at = 0.0
        while True:
            silent_seconds = time.monotonic() - self.moved_at
            if silent_seconds >= limit:
                return await self._give_up(gen, limit)
            if time.monotonic() - max(asked_at, self.moved_at) >= trust:
                await self._ask(silent_seconds)
                asked_at = time.monotonic()
            look_at = min(self.moved_at + limit, max(asked_at, self.moved_at) + trust)
            try:
                pause = max(_LAST_LOOK_SECONDS, look_at - time.monotonic())
                return await super().wait(gen, interval, pause)
            except psycopg.errors._WaitTimeout:
                continue

    async def _ask(self, seconds: float) -> None:
        """Find out whether it is the server that is silent, or only this statement that takes its time."""
        try:
            if self.is_at_work is None or await self.is_at_work(self):
                return
        except BaseException:
            self._hang_up()
            raise
        await self._abandon(seconds)

    async def _give_up(self, gen: Any, seconds: float) -> Any:
        """End the statement on the server; its answer may come after all, and then it is one."""
        if not self.may_cancel:
            self._hang_up()
            raise ServerSilentError(seconds)
        try:
            await self.cancel_safe(timeout=_CANCEL_SECONDS)
        except psycopg.Error:
            await self._abandon(seconds)
        try:
            return await super().wait(gen, 0.1, _CANCEL_SECONDS)
        except psycopg.errors.QueryCanceled:
            raise StatementTooSlowError(seconds) from None
        except psycopg.errors._WaitTimeout:
            self._hang_up()
            raise ServerSilentError(seconds) from None

    async def _abandon(self, seconds: float) -> None:
        self.pgconn.finish()
        if self.on_silence is not None:
            await self.on_silence()
        raise ServerSilentError(seconds)

    def _hang_up(self) -> None:
        """Close this side only: that makes the server let go; when it has, it closes the other side."""
        with suppress(OSError):
            self.remainder = socket.socket(fileno=os.dup(self.pgconn.socket))
            self.remainder.setblocking(False)
        self.pgconn.finish()
        if self.remainder is not None:
            with suppress(OSError):
                self.remainder.shutdown(socket.SHUT_WR)

    def _watched(self, gen: Any, *, has_begun: bool = False) -> Any:
        """Note when bytes move. On a loop with a thread of its own, first wait without the loop.

        What comes at once would take several changes of threads there. What takes longer is left to the loop:
        this generator goes on where the waiting ended.
        """
        poll = select.poll() if self.owns_thread else None
        try:
            # One that has begun, and may be in the midst of sending, takes nothing but what is ready.
            wanted = gen.send(_NOTHING_READY) if has_begun else next(gen)
            while True:
                ready = 0
                if poll is not None:
                    poll.register(self.pgconn.socket, _EVENTS[wanted])
                    for _, events in poll.poll(_AT_ONCE_MS):
                        ready |= READY_R if events & _INPUT else 0
                        ready |= READY_W if events & select.POLLOUT else 0
                ready = ready or (yield wanted) or 0
                if ready:
                    self.moved_at = time.monotonic()
                wanted = gen.send(ready)
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
