"""Asking a server that may be busy, a page at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final

import httpx
from langgraph_sdk.errors import APIError

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.moving.content import NotTakenError

_ATTEMPTS: Final = 4
_OF_THE_SERVER: Final = (401, 403, 429, 502, 503, 504)
"""What it answers whichever thread is asked for."""


async def patiently(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask again where the network, or a server that is busy, is to blame."""
    for attempt in range(_ATTEMPTS):
        try:
            return await ask()
        except (httpx.TransportError, APIError) as error:
            status = getattr(error, "status_code", None)
            if attempt == _ATTEMPTS - 1 or (status is not None and status < 500 and status != 429):
                raise
            await asyncio.sleep(0.5 * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


async def of_thread(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask for something of one thread.

    Raises:
        NotTakenError: The server has an error for this thread, as for one whose graph it has no more.
    """
    try:
        return await patiently(ask)
    except APIError as error:
        status = getattr(error, "status_code", None)
        if status is None or status in _OF_THE_SERVER:
            raise
        raise NotTakenError(f"the source answers {status}: {error}") from error


async def paged(
    ask: Callable[[int, int], Awaitable[Any]], first: int, moment: str
) -> AsyncIterator[dict[str, Any]]:
    """Everything that a server lists in the order of a moment, asked for by limit and offset.

    Those with the same moment may come in another order each time, so each page ends between two moments.

    Raises:
        EngineError: More have the same moment than the server gives at once.
    """
    offset, size = 0, first
    while True:
        page = await patiently(partial(ask, size, offset))
        if len(page) < size:
            for row in page:
                yield row
            if size > first and await patiently(partial(ask, 1, offset + len(page))):
                raise EngineError(
                    f"The source gives no more than {len(page)} at once, and more than that have the same "
                    f"{moment}, so it cannot be seen whether all are brought."
                )
            return
        whole = len(page)
        while whole and page[whole - 1][moment] == page[-1][moment]:
            whole -= 1
        for row in page[:whole]:
            yield row
        offset += whole
        size = first if whole else size * 2
