"""How late an event loop is: what blocks it keeps every request of the process waiting."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

_PAUSE_SECONDS: Final = 0.25
_KEPT_SECONDS: Final = 15.0
"""As long as most scrapes are apart, so that none misses a lag between two of them."""


class LoopLag:
    """Measures one loop; may be asked from any thread, also while the loop is blocked."""

    def __init__(self) -> None:
        """Know of no lag yet."""
        self._due: float | None = None
        self._late: deque[tuple[float, float]] = deque()

    async def watch(self) -> None:
        """Measure until cancelled."""
        while True:
            due = self._due = time.monotonic() + _PAUSE_SECONDS
            await asyncio.sleep(_PAUSE_SECONDS)
            self.note(time.monotonic() - due)

    def note(self, late_seconds: float) -> None:
        """The loop came back that late."""
        moment = time.monotonic()
        self._late.append((moment, late_seconds))
        while self._late and self._late[0][0] < moment - _KEPT_SECONDS:
            self._late.popleft()

    def seconds(self) -> float:
        """The longest lag of late, or that of now."""
        lags = [late for _, late in list(self._late)]
        if self._due is not None:
            lags.append(time.monotonic() - self._due)
        return max(0.0, *lags) if lags else 0.0
