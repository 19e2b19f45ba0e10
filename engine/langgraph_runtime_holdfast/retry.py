"""Which faults are transient, for the API's handlers and for the worker."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final, ParamSpec, TypeVar

import psycopg
from psycopg_pool import PoolTimeout
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.availability import (
    RETRY_AFTER_EXHAUSTED_SECONDS,
    RETRY_AFTER_SECONDS,
    LimitExceededError,
    explain_unavailable,
    is_exhausted,
)
from langgraph_runtime_holdfast.connection import StatementTooSlowError
from langgraph_runtime_holdfast.database import AWAY
from langgraph_runtime_holdfast.pool import IS_CALL

P = ParamSpec("P")
T = TypeVar("T")


class RetryableException(Exception):  # noqa: N818 - the name that runtimes give it
    """Raise it in a run to have the run tried again."""


class ThreadBusyError(Exception):
    """A run works on the thread, or waits to.

    No HTTPException: where the server creates a thread with its history, it makes a success of these.
    """


TRANSIENT: Final[tuple[type[BaseException], ...]] = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.ReadOnlySqlTransaction,
    # Ended by Postgres while this process stood still; psycopg has them among its internal errors.
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
    PoolTimeout,
)

RETRIABLE_EXCEPTIONS: Final[tuple[type[BaseException], ...]] = (RetryableException, *TRANSIENT)
"""What puts a run back into the queue."""

OVERLOADED_EXCEPTIONS: Final[tuple[type[BaseException], ...]] = AWAY
"""What the API answers with 503."""

_ATTEMPTS: Final = 4
_FIRST_DELAY_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 120.0
_LONGEST_PAUSE_ATTEMPT: Final = 4


_must_not_repeat: ContextVar[bool] = ContextVar("must_not_repeat", default=False)


def must_not_repeat() -> None:
    """Say that the running handler has begun to create something; repeating it would create another."""
    _must_not_repeat.set(True)


def retry_db(func: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Repeat a handler whose connection died under it, a few times within a second.

    The stock server puts this around its handlers, creating runs included, and each repetition of those would
    choose a new run id. What creates therefore repeats itself under one id, and calls `must_not_repeat`.
    """

    @functools.wraps(func)
    async def repeated(*args: P.args, **kwargs: P.kwargs) -> T:
        before = IS_CALL.set(True)
        try:
            return await _repeated(lambda: func(*args, **kwargs))
        finally:
            IS_CALL.reset(before)

    return repeated


async def _repeated(handle: Callable[[], Awaitable[T]]) -> T:
    for attempt in range(1, _ATTEMPTS + 1):
        _must_not_repeat.set(False)
        try:
            return await handle()
        except (*AWAY, StatementTooSlowError) as error:
            # It has waited as long as a caller should.
            raise _refusal(error) from error
        except TRANSIENT as error:
            if _must_not_repeat.get() or attempt == _ATTEMPTS:
                raise _refusal(error) from error
            await pause(attempt)
        except ThreadBusyError as error:
            raise HTTPException(409, str(error)) from None
        except LimitExceededError as error:
            raise HTTPException(422, f"This is more than Postgres can hold: {error}") from error
    raise AssertionError("the last attempt returns or raises")


def _refusal(error: BaseException) -> HTTPException:
    seconds = RETRY_AFTER_EXHAUSTED_SECONDS if is_exhausted(error) else RETRY_AFTER_SECONDS
    told = explain_unavailable(error, may_be_done=_must_not_repeat.get())
    return HTTPException(503, told, headers={"Retry-After": str(seconds)})


async def pause(attempt: int) -> None:
    """Wait before another attempt: exponential back-off with full jitter, within a second in all."""
    delay = _FIRST_DELAY_SECONDS * 2**attempt
    await asyncio.sleep(random.uniform(0, delay))  # noqa: S311 - spreads load, protects nothing


async def patiently(write: Callable[[], Awaitable[T]], *, limit_seconds: float = _PATIENCE_SECONDS) -> T:
    """Repeat something that may be done twice until the database takes it; then the last error goes on.

    For what a running job writes: while the database is away nothing is gained by giving up, because the job
    would have to begin again from its last checkpoint, in the same queue, and with one attempt less.
    """
    deadline, attempt = time.monotonic() + limit_seconds, 0
    while True:
        try:
            return await write()
        except TRANSIENT:
            if time.monotonic() > deadline:
                raise
            attempt = min(attempt + 1, _LONGEST_PAUSE_ATTEMPT)
            await pause(attempt)


async def create_under_one_id(create: Callable[[], Awaitable[T]]) -> T:
    """Create something whose id is chosen already, again if the connection dies under it.

    The handler around it is not repeated any more. `create` must find what an attempt of its own has made,
    whose answer was lost.
    """
    must_not_repeat()
    for attempt in range(1, _ATTEMPTS):
        try:
            return await create()
        except (*AWAY, StatementTooSlowError):
            raise
        except TRANSIENT:
            await pause(attempt)
    return await create()
