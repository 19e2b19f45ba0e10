"""A start while Postgres is away waits for it, for a while, and answers probes meanwhile.

Servers and their database often start together, and a server that is restarted during an outage must not end,
restart and end again until the outage is over. What waiting does not cure is no reason to wait: a wrong
password or a database that does not exist is told at once, by whoever connects next.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from socket import socket
from types import FrameType
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from starlette.requests import Request

from langgraph_runtime_holdfast.dsn import CONNECTION_CURE, described
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.event_loop import new_event_loop
from langgraph_runtime_holdfast.health import App, answer, not_ready, serving, wants_database
from langgraph_runtime_holdfast.settings import settings
from langgraph_runtime_holdfast.telling import tell

_TRY_EVERY_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 5.0
_TELL_EVERY_SECONDS: Final = 60.0
# libpq gives no SQLSTATE for a connection that it was refused.
_FINAL: Final = re.compile(
    r"password|authentication (failed|method)|pg_hba\.conf|(role|database|user) \"[^\"]*\" does not exist"
    r"|permission denied|not permitted to log in|does not support SSL|certificate",
    re.IGNORECASE,
)


class ToldToEndError(Exception):
    """A signal asked the server to end while it waited."""

    def __init__(self, number: int) -> None:
        """Remember which signal."""
        self.number = number


def wait_for_database(dsn: str, limit_seconds: float, listener: socket) -> None:
    """Return when Postgres answers, or refuses for a reason that no waiting cures.

    Args:
        dsn: The database, for libpq.
        limit_seconds: How long to wait; 0: not at all.
        listener: The server's port, on which probes are answered while it waits.

    Raises:
        EngineError: It was away all the time.
        ToldToEndError: A signal came.
    """
    if limit_seconds <= 0:
        return
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_wait(dsn, limit_seconds, listener))


async def wait_again() -> None:
    """Wait once more, in a process that begins to serve.

    It may be one of several, of which each takes seconds to come so far, or one that follows one that died:
    Postgres may have gone meanwhile, and a process that cannot start ends all of them.

    Raises:
        EngineError: It was away all the time, or a signal came.
    """
    dsn, limit_seconds = settings().dsn, settings().database_wait_seconds
    if limit_seconds <= 0 or (reason := await _why_away(dsn)) is None:
        return
    _tell_away(dsn, reason, limit_seconds)
    waiting = asyncio.create_task(_until_there(dsn, time.monotonic(), limit_seconds))
    told: list[int] = []
    loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

    def end(number: int, frame: FrameType | None) -> None:
        told.append(number)
        loop.call_soon_threadsafe(waiting.cancel)
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, end)
    try:
        await waiting
    except asyncio.CancelledError:
        if not told:
            raise
        raise EngineError("Told to end while it waited for Postgres.") from None
    finally:
        waiting.cancel()
        signal.signal(signal.SIGTERM, before)


async def _wait(dsn: str, limit_seconds: float, listener: socket) -> None:
    began = time.monotonic()
    if (reason := await _why_away(dsn)) is None:
        return
    _tell_away(dsn, reason, limit_seconds)
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _note, told, number)
    async with serving(_waiting_app(described(dsn)), listener):
        waiting = asyncio.create_task(_until_there(dsn, began, limit_seconds))
        either: set[asyncio.Future[Any]] = {waiting, told}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            waiting.cancel()
            raise ToldToEndError(told.result())
        waiting.result()
    tell(f"Postgres at {described(dsn)} is there, after {time.monotonic() - began:.0f} s")


def _tell_away(dsn: str, reason: str, limit_seconds: float) -> None:
    tell(
        f"Postgres at {described(dsn)} is away ({reason}). Waiting for it for up to {limit_seconds:g} s "
        "(HOLDFAST_DATABASE_WAIT_SECONDS)",
        "warning",
    )


def _note(told: asyncio.Future[int], number: int) -> None:
    if not told.done():
        told.set_result(number)


async def _until_there(dsn: str, began: float, limit_seconds: float) -> None:
    tell_at = began + _TELL_EVERY_SECONDS
    while True:
        await asyncio.sleep(_TRY_EVERY_SECONDS)
        if (reason := await _why_away(dsn)) is None:
            return
        now = time.monotonic()
        if now - began > limit_seconds:
            raise EngineError(
                f"Postgres at {described(dsn)} cannot be used: {reason}. "
                f"This start has waited {limit_seconds:g} s for it. {CONNECTION_CURE}"
            )
        if now > tell_at:
            tell_at = now + _TELL_EVERY_SECONDS
            tell(f"Postgres is still away after {now - began:.0f} s ({reason})", "warning")


async def _why_away(dsn: str) -> str | None:
    """Why Postgres does not answer; None if it does, and if waiting would not help."""
    try:
        # Bounded by connect_timeout, for each host: of several the first may be the one that is gone.
        async with await AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
            # Behind a pooler a connection says nothing yet.
            async with asyncio.timeout(_ANSWER_SECONDS):
                await connection.execute("SELECT 1")
    except TimeoutError:
        return f"no answer within {_ANSWER_SECONDS:g} s"
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        return None if _FINAL.search(reason) else reason
    except (psycopg.Error, OSError):
        return None
    return None


def _waiting_app(where: str) -> App:
    """The server while it waits: it lives, and is not ready."""

    async def waiting(scope: object, receive: object, send: object) -> None:
        request = Request(scope)  # type: ignore[arg-type]
        lives = request.url.path.endswith("/ok") and not wants_database(request)
        reply = await answer(request) if lives else not_ready(f"The server waits for Postgres at {where}.")
        await reply(scope, receive, send)  # type: ignore[arg-type]

    return waiting
