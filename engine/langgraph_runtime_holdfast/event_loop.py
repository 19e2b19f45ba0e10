"""Which event loops are used: for the API the fast one, for jobs one whose steps the watchdog can see.

Python runs one thread at a time. A thread that does input or output lets another one run, and then has to
wait for it: with ten jobs on ten loops much of the time goes into changing threads, many times within one
step of a graph. So loops of jobs that are many pass a turn around, and change when one of them has nothing
more to do. A job that blocks or computes loses the turn after some milliseconds, to those who wait for it.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from typing import Any, Final

_LOOK_EVERY_SECONDS: Final = 0.002
_LONGEST_TURN_SECONDS: Final = 0.005


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop, as uvicorn does it for the API."""
    try:
        import uvloop
    except ImportError:  # there is none for this platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def new_job_loop(*, among_many: bool) -> asyncio.AbstractEventLoop:
    """Make an event loop for jobs; one among many takes turns with the others."""
    return asyncio.SelectorEventLoop(_TurnSelector() if among_many else None)


class _Turns:
    """Whose turn it is: who holds the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changing = threading.Lock()

    def take(self) -> threading.Lock:
        """Wait for the turn; returns what ends it, when released."""
        while True:
            lock = self._lock
            if lock.acquire(timeout=_LONGEST_TURN_SECONDS):
                if lock is self._lock:
                    return lock
                lock.release()
                continue
            # Whoever has it is blocked, or computes: that one goes on without it.
            with self._changing:
                if self._lock is lock:
                    self._lock = threading.Lock()


_turns: Final = _Turns()


class _TurnSelector(selectors.DefaultSelector):
    """Waits for input, and for the thread's turn; looks for input only now and then while there is work."""

    def __init__(self) -> None:
        super().__init__()
        self._looked_at = 0.0
        self._turn: threading.Lock | None = None

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None and timeout <= 0:
            if time.monotonic() - self._looked_at < _LOOK_EVERY_SECONDS:
                return []
            found = super().select(0)
        else:
            if self._turn is not None:
                self._turn.release()
                self._turn = None
            found = super().select(timeout)
            self._turn = _turns.take()
        self._looked_at = time.monotonic()
        return found

    def close(self) -> None:
        if self._turn is not None:
            self._turn.release()
            self._turn = None
        super().close()
