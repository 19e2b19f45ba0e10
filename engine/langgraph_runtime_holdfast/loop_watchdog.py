"""Sees when the loop of jobs does not answer, and says what it is doing instead.

A node that blocks holds up every run on its loop, and nothing on that loop can tell. So a thread asks each
loop for an answer several times a second. Where none comes it logs the stack of the loop's thread once, and
the run to which it belongs; the queue then claims nothing for that loop, so that others take the work.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextvars import Context
from pathlib import Path
from types import FrameType
from typing import Any, Final

import structlog

from langgraph_runtime_holdfast.job_loop import JobLoop

logger = structlog.stdlib.get_logger(__name__)

BLOCKED_SECONDS: Final = 0.7
_ASK_SECONDS: Final = 0.1
_TELL_AGAIN_SECONDS: Final = 60.0
_MOST_FRAMES: Final = 40
_STEP: Final = asyncio.Handle._run.__code__
_OTHERS_CODE: Final = (
    *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parent),
    "<",
)


class _Watched:
    """What is known about one loop."""

    def __init__(self, loop: JobLoop) -> None:
        self.loop = loop
        self.owes_answer = False
        self.asked_at = 0.0
        self.lag_seconds = 0.0
        """How long the last answer took."""
        self.is_blocked = False
        self.seen_at = 0.0
        """When its stack was last looked at."""
        self.is_told = False
        """Whether the log knows that it is blocked."""
        self.told_of: dict[str, float] = {}
        """When the log was last told of a function that blocks."""

    def ask(self) -> None:
        self.asked_at, self.owes_answer = time.monotonic(), True
        self.loop.call(self._answer)

    def waits_seconds(self) -> float:
        return time.monotonic() - self.asked_at if self.owes_answer else 0.0

    def _answer(self) -> None:
        self.lag_seconds, self.owes_answer = self.waits_seconds(), False


class LoopWatchdog(threading.Thread):
    """Watches the job loops of this process."""

    def __init__(self, loops: Sequence[JobLoop], on_change: Callable[[JobLoop], object]) -> None:
        """Watch nothing yet.

        Args:
            loops: To be watched.
            on_change: Called in the watchdog's thread when a loop has become blocked or free.
        """
        super().__init__(name="loop-watchdog", daemon=True)
        self._watched = {loop: _Watched(loop) for loop in loops}
        self._on_change = on_change
        self._ending = threading.Event()

    def is_blocked(self, loop: JobLoop) -> bool:
        """Whether this loop does not answer."""
        return self._watched[loop].is_blocked

    def blocked(self) -> int:
        """How many loops do not answer."""
        return sum(watched.is_blocked for watched in self._watched.values())

    def lag_seconds(self) -> float:
        """How long the slowest loop takes to answer, or has taken so far."""
        lags = (max(each.lag_seconds, each.waits_seconds()) for each in self._watched.values())
        return max(lags, default=0.0)

    def end(self) -> None:
        """Watch no more."""
        self._ending.set()

    def run(self) -> None:
        """Ask each loop for an answer, until told to end."""
        looked_at = time.monotonic()
        while not self._ending.wait(_ASK_SECONDS):
            now, before = time.monotonic(), looked_at
            looked_at = now
            try:
                for watched in self._watched.values():
                    # If this thread stood still too, the process did: nobody blocks its loops.
                    self._look(watched, stood_still=now - before > BLOCKED_SECONDS)
            except Exception as error:  # whatever it is, a thread that ends would see nothing any more
                logger.exception("The watchdog failed; it goes on", exc_info=error)

    def _look(self, watched: _Watched, *, stood_still: bool) -> None:
        if not watched.owes_answer:
            if watched.is_blocked:
                watched.is_blocked = False
                self._on_change(watched.loop)
                _tell_free(watched)
            watched.ask()
        elif stood_still:
            watched.asked_at = time.monotonic()
        elif watched.waits_seconds() >= BLOCKED_SECONDS:
            if not watched.is_blocked:
                watched.is_blocked = True
                self._on_change(watched.loop)
                _tell_blocked(watched)
            elif time.monotonic() - watched.seen_at > _TELL_AGAIN_SECONDS:
                _tell_blocked(watched)


def _tell_blocked(watched: _Watched) -> None:
    frames = _frames(watched.loop.thread_id)
    stack = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in reversed(frames))
    blocking, now = _blocking(stack), time.monotonic()
    watched.seen_at = now
    # One that blocks again and again is told of now and then.
    recent = {name: at for name, at in watched.told_of.items() if now - at < _TELL_AGAIN_SECONDS}
    if (name := f"{blocking.filename} {blocking.name}") in recent:
        return
    watched.is_told, watched.told_of = True, {**recent, name: now}
    context = next((found for frame in frames if (found := _context_of(frame)) is not None), Context())
    tell = functools.partial(
        logger.warning,
        "A node blocks the event loop of the jobs: this process takes no more of them until it is free. "
        "Await instead, or move what blocks or computes to another thread or process",
        loop=watched.loop.name,
        blocked_seconds=round(watched.waits_seconds(), 1),
        at=f"{blocking.filename}:{blocking.lineno} in {blocking.name}",
        stack="".join(stack.format()),
    )
    # In the context of what blocks: the server's log adds the run, its thread, its graph and the node.
    context.copy().run(tell)


def _tell_free(watched: _Watched) -> None:
    if not watched.is_told:
        return
    watched.is_told = False
    logger.warning(
        "The event loop of the jobs is free again",
        loop=watched.loop.name,
        blocked_seconds=round(watched.lag_seconds, 1),
    )


def _frames(thread_id: int) -> list[FrameType]:
    """What the thread is doing, the innermost first, within one step of its loop."""
    frames: list[FrameType] = []
    frame = sys._current_frames().get(thread_id)
    while frame is not None:
        frames.append(frame)
        if frame.f_code is _STEP:
            break
        frame = frame.f_back
    return frames[:_MOST_FRAMES] + frames[_MOST_FRAMES:][-1:]


def _context_of(frame: FrameType) -> Context | None:
    if frame.f_code is not _STEP:
        return None
    found: Any = getattr(frame.f_locals.get("self"), "_context", None)
    return found if isinstance(found, Context) else None


def _blocking(stack: traceback.StackSummary) -> traceback.FrameSummary:
    """The innermost line that is neither Python's own, nor an installed package's, nor ours."""
    own = [frame for frame in stack if not frame.filename.startswith(_OTHERS_CODE)]
    return (own or list(stack) or [traceback.FrameSummary("?", 0, "?")])[-1]
