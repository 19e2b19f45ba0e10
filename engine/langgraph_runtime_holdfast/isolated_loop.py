"""An event loop in a thread of its own, in which a job cannot hold up the API or other jobs."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

import structlog

from langgraph_runtime_holdfast.database import close_pool, open_pool
from langgraph_runtime_holdfast.event_loop import new_job_loop
from langgraph_runtime_holdfast.feed import close_follower
from langgraph_runtime_holdfast.near_executor import NearExecutor
from langgraph_runtime_holdfast.ops.outgoing import hand_on_to, outgoing
from langgraph_runtime_holdfast.valkey import stop_valkey

logger = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")


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

    def _start(self, work: Coroutine[Any, Any, T]) -> None:
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(self._end)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: asyncio.Task[T]) -> None:
        if not self._outcome.set_running_or_notify_cancel():
            return
        if task.cancelled():
            self._outcome.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self._outcome.set_exception(error)
        else:
            self._outcome.set_result(task.result())


class IsolatedLoop:
    """Runs coroutines in its thread; the pool and clients that they open are closed with it."""

    def __init__(self, name: str) -> None:
        """Start the thread; the loop that calls is the one that its events go through."""
        home, of_home = asyncio.get_running_loop(), outgoing()
        self._loop = new_job_loop()
        self._loop.set_default_executor(NearExecutor(thread_name_prefix=f"{name}-"))
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._loop.call_soon_threadsafe(hand_on_to, home, of_home)

    def submit(self, work: Coroutine[Any, Any, T]) -> Submission[T]:
        """Start a coroutine in the loop, whose pool is open by then; from any thread."""
        return Submission(_with_pool(work), self._loop)

    async def close(self, timeout_seconds: float) -> None:
        """Close what belongs to the loop and end the thread; a loop that is blocked is left behind."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await Submission(self._clean_up(), self._loop)
        except TimeoutError:
            await logger.awarning("A blocked event loop is left behind", loop=self._thread.name)
            return
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _clean_up(self) -> None:
        # The ends of its last runs may still be on their way.
        await outgoing().settle()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await close_follower()
        await stop_valkey()
        await close_pool()
        await self._loop.shutdown_asyncgens()


async def _with_pool(work: Coroutine[Any, Any, T]) -> T:
    # The server asks for the store, which needs the pool, before it connects.
    try:
        await open_pool()
    except BaseException:
        work.close()
        raise
    return await work
