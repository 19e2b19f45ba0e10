"""Which faults are transient, for the API's handlers and for the worker."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final, ParamSpec, TypeVar

import psycopg
from psycopg_pool import PoolTimeout

from langgraph_runtime_holdfast.database import AWAY

P = ParamSpec("P")
T = TypeVar("T")


class RetryableException(Exception):  # noqa: N818 - the name that runtimes give it
    """Raise it in a run to have the run tried again."""


TRANSIENT: Final[tuple[type[BaseException], ...]] = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.ReadOnlySqlTransaction,
    PoolTimeout,
)

RETRIABLE_EXCEPTIONS: Final[tuple[type[BaseException], ...]] = (RetryableException, *TRANSIENT)
"""What puts a run back into the queue."""

OVERLOADED_EXCEPTIONS: Final[tuple[type[BaseException], ...]] = AWAY
"""What the API answers with 503."""

_ATTEMPTS: Final = 4
_FIRST_DELAY_SECONDS: Final = 0.05


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
        for attempt in range(1, _ATTEMPTS):
            _must_not_repeat.set(False)
            try:
                return await func(*args, **kwargs)
            except TRANSIENT:
                if _must_not_repeat.get():
                    raise
                await pause(attempt)
        return await func(*args, **kwargs)

    return repeated


async def pause(attempt: int) -> None:
    """Wait before another attempt: exponential back-off with full jitter, within a second in all."""
    delay = _FIRST_DELAY_SECONDS * 2**attempt
    await asyncio.sleep(random.uniform(0, delay))  # noqa: S311 - spreads load, protects nothing


async def create_under_one_id(create: Callable[[], Awaitable[T]]) -> T:
    """Create something whose id is chosen already, again if the connection dies under it.

    The handler around it is not repeated any more. `create` must find what an attempt of its own has made,
    whose answer was lost.
    """
    must_not_repeat()
    for attempt in range(1, _ATTEMPTS):
        try:
            return await create()
        except TRANSIENT:
            await pause(attempt)
    return await create()
