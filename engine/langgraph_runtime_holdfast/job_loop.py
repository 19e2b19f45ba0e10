"""The event loops of jobs: each in a thread of its own, apart from the API's and from the heartbeat.

By default the jobs of a process share one, because model libraries keep one asynchronous HTTP client a
process, and a client belongs to the loop that first used it. What a job leaves running on its loop goes on,
as in the stock server: it may be what such a client lives on.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

import structlog

from langgraph_runtime_holdfast.database import close_pool, open_pool
from langgraph_runtime_holdfast.event_loop import new_job_loop
from langgraph_runtime_holdfast.feed import close_follower
from langgraph_runtime_holdfast.ops.outgoing import hand_on_to, outgoing
from langgraph_runtime_holdfast.valkey import stop_valkey

logger = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

_THREADS: Final = 32
_THREADS_OF_A_JOB: Final = 8
_POOL_SECONDS: Final = 2.0


class Submission(Generic[T]):
    """A coroutine in another loop: awaited and cancelled from this one.

    Other than a future of `run_coroutine_threadsafe`, one that is cancelled is over when its work is.
    """

    def __init__(self, work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> None:
        """Start the work in the loop."""
        self._loop = loop
        self._task: asyncio.Task[T] | None = None
        self._outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        loop.call_soon_threadsafe(self._start, work)

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the result."""
        return asyncio.wrap_future(self._outcome).__await__()

    def cancel(self) -> None:
        """Cancel the work, from any thread."""
        self._loop.call_soon_threadsafe(self._cancel)

    def withdraw(self) -> bool:
        """Have work that has not begun never begin, and count as cancelled; whether this call did it."""
        return not self._outcome.cancelled() and self._outcome.cancel()

    def _start(self, work: Coroutine[Any, Any, T]) -> None:
        if not self._outcome.set_running_or_notify_cancel():
            work.close()
            return
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(self._end)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._outcome.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(task.result())


class JobLoop:
    """Runs coroutines in its thread; the pool and clients that they open are closed with it."""

    def __init__(self, name: str, *, jobs: int, among_many: bool) -> None:
        """Start the thread; the loop that calls is the one that its events go through.

        Args:
            name: The thread's.
            jobs: How many it runs at once.
            among_many: Whether this process has more than one.
        """
        home, of_home = asyncio.get_running_loop(), outgoing()
        self.name = name
        self._loop = new_job_loop(among_many=among_many)
        # Jobs whose tools block in threads must leave some for the server, which encodes and logs in them.
        threads = _THREADS + _THREADS_OF_A_JOB * jobs
        self._loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(threads, f"{name}-"))
        self._stopped = self._loop.create_future()
        self._main = self._loop.create_task(self._until_stopped())
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._loop.call_soon_threadsafe(hand_on_to, home, of_home)
        # By itself and not by the first job, whose context its tasks would keep.
        self.submit(open_pool())

    @property
    def thread_id(self) -> int:
        """Of its thread, as `sys._current_frames` has it."""
        assert self._thread.ident is not None  # it was started
        return self._thread.ident

    def submit(self, work: Coroutine[Any, Any, T]) -> Submission[T]:
        """Start a coroutine in the loop, from any thread."""
        return Submission(work, self._loop)

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the loop as soon as it can, from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function)

    async def close(self, timeout_seconds: float) -> None:
        """Close what belongs to the loop and end the thread; a loop that is blocked is left behind."""
        cleaning = self.submit(self._clean_up())
        try:
            async with asyncio.timeout(timeout_seconds):
                await cleaning
        except TimeoutError:
            cleaning.withdraw()
            await logger.awarning("A blocked event loop is left behind", loop=self.name)
            return
        self.call(lambda: self._stopped.set_result(None))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            # Not run_forever(): anyio's pools of threads and processes end with the loop's main task. Without
            # one they would end with the job that was the first to use them, and fail whoever uses them then.
            self._loop.run_until_complete(self._main)
        finally:
            self._loop.close()

    async def _until_stopped(self) -> None:
        await self._stopped

    async def _clean_up(self) -> None:
        # The ends of its last runs may still be on their way.
        await outgoing().settle()
        # Before its own tasks are cancelled, which it would take for its caller's being cancelled.
        await close_pool(_POOL_SECONDS)
        others = asyncio.all_tasks() - {asyncio.current_task(), self._main}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await close_follower()
        await stop_valkey()
        await self._loop.shutdown_asyncgens()
