"""Wakes the process's deliverer when a callback has been written, so that it goes out at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Bell:
    """An event of one loop that is rung from any thread."""

    def __init__(self) -> None:
        """Belong to the running loop."""
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake who waits, or who waits next."""
        with suppress(RuntimeError):  # the loop is closed: nobody is left to wake
            self._loop.call_soon_threadsafe(self._event.set)

    def silence(self) -> None:
        """Forget the rings so far."""
        self._event.clear()

    async def wait(self, timeout_seconds: float) -> None:
        """Wait for a ring, or until the time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()


_bell: Bell | None = None


def hang(bell: Bell | None) -> None:
    """Make this the process's bell; None takes it down."""
    global _bell
    _bell = bell


def ring() -> None:
    """Say that there is a callback to deliver. Where nobody delivers, another process finds it."""
    if (bell := _bell) is not None:
        bell.ring()
