"""Queueing for the client's own connections, which is never to be taken for a server's silence."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A number of turns that are had at once; who comes later queues, in order."""

    def __init__(self, at_once: int) -> None:
        """Say how many there are."""
        self._free = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def take(self, longest_wait_seconds: float) -> AsyncIterator[bool]:
        """Have a turn while the block lasts; yields whether there is one.

        Args:
            longest_wait_seconds: Who has queued for so long goes on without a turn: with the server away none
                comes free, and everybody's own deadline must begin at some time. `math.inf`: never.
        """
        has_turn = True
        try:
            async with asyncio.timeout(None if math.isinf(longest_wait_seconds) else longest_wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            has_turn = False
        # Not in the handler above: what fails in the block would seem to have failed for want of a turn.
        try:
            yield has_turn
        finally:
            if has_turn:
                self._free.release()
