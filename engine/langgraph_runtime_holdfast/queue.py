"""The queue of one process: claims runs as it has free slots, works on them, delivers callbacks.

When the process stops, it claims nothing more and lets its jobs finish within the grace period. Those that do
not are handed back, and go on elsewhere from their last checkpoint without an attempt being counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from langgraph_runtime_holdfast.job_loop import JobLoop, Submission
from langgraph_runtime_holdfast.loop_watchdog import LoopWatchdog
from langgraph_runtime_holdfast.metrics.gauges import report_wait, show_job_loops
from langgraph_runtime_holdfast.metrics.meters import meters
from langgraph_runtime_holdfast.ops.lease import Lease, heartbeat, held, save_lag_seconds
from langgraph_runtime_holdfast.ops.run_enter import settle
from langgraph_runtime_holdfast.ops.runs import Runs
from langgraph_runtime_holdfast.ops.signals import listen, wake_here
from langgraph_runtime_holdfast.outbox.deliverer import delivering
from langgraph_runtime_holdfast.retry import RETRIABLE_EXCEPTIONS
from langgraph_runtime_holdfast.sweeper import sweep_on

logger = structlog.stdlib.get_logger(__name__)

_HAND_BACK_SECONDS: Final = 5.0
_SETTLE_SECONDS: Final = 10.0
_RETRY_CLAIM_SECONDS: Final = 1.0
_EXPECTED: Final[tuple[type[BaseException], ...]] = (*RETRIABLE_EXCEPTIONS, asyncio.CancelledError)

_queues: set[Queue] = set()


def active_workers() -> int:
    """How many jobs this process works on."""
    return sum(len(each.jobs) for each in _queues)


async def queue() -> None:
    """Work on runs until cancelled; then let the jobs finish, and hand back the rest."""
    from langgraph_api import config

    # Around the queue: callbacks of runs that end while it drains still go out.
    async with delivering():
        mine = Queue(config.N_JOBS_PER_WORKER, isolated=config.BG_JOB_ISOLATED_LOOPS)
        _queues.add(mine)
        try:
            await mine.run()
        finally:
            try:
                await mine.drain(config.BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS)
            finally:
                _queues.discard(mine)


@dataclass(eq=False, slots=True)
class Job:
    """A run that is being worked on."""

    run: dict[str, Any]
    lease: Lease
    loop: JobLoop
    worker: Submission[Any]


class Queue:
    """The jobs of this process and the slots for them."""

    def __init__(self, slots: int, *, isolated: bool) -> None:
        """Prepare the slots; they share an event loop, or each has its own if they are isolated."""
        self.jobs: set[Job] = set()
        self._slots = slots
        count = slots if isolated else 1
        self._jobs_a_loop = slots // count
        self._loops = [
            JobLoop(f"jobs-{number}", jobs=self._jobs_a_loop, among_many=count > 1) for number in range(count)
        ]
        self.watchdog = LoopWatchdog(self._loops, self._on_loop_change)
        self._slot_freed = asyncio.Event()
        self._stopping = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._main_loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Claim and start runs until cancelled."""
        await logger.ainfo("Starting the queue", jobs=self._slots, loops=len(self._loops))
        self.watchdog.start()
        show_job_loops(self.watchdog.blocked, self.watchdog.lag_seconds)
        meters().save_lag.set_function(save_lag_seconds)
        claiming = asyncio.create_task(self._claim_on())
        helpers = [asyncio.create_task(work) for work in (listen(), sweep_on())]
        try:
            # Not cancelled with this task: a claim that is under way must be known.
            await asyncio.shield(claiming)
        finally:
            self._stopping = True
            wake_here()
            self._slot_freed.set()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(claiming, *helpers, return_exceptions=True)

    async def drain(self, grace_seconds: float) -> None:
        """Let the jobs finish; hand back those that do not."""
        if self.jobs:
            await logger.ainfo("Waiting for running jobs", jobs=len(self.jobs), grace_seconds=grace_seconds)
        try:
            await self._wait_for_jobs(grace_seconds)
        finally:
            await self._hand_back()
            # Those on a blocked loop will not end; their runs are in the queue again.
            if any(not self.watchdog.is_blocked(job.loop) for job in self.jobs):
                await asyncio.wait(self._tasks, timeout=_SETTLE_SECONDS)
            self.watchdog.end()
            await asyncio.gather(*(loop.close(_HAND_BACK_SECONDS) for loop in self._loops))
            heartbeat().end()

    async def _claim_on(self) -> None:
        # As if all had been found: the first look is at once.
        claimed = wanted = self._slots
        failing = False
        while not self._stopping:
            free = len(self._free_slots())
            if not free:
                self._slot_freed.clear()
                await self._slot_freed.wait()
                continue
            # As many as were asked for: there may be more.
            wait, wanted = claimed < wanted, free
            try:
                runs = [each async for each in Runs.next(wait=wait, limit=wanted)]
            except Exception as error:
                claimed = 0
                if not failing:
                    failing = True
                    await logger.awarning("No runs can be claimed now; trying on", error=str(error))
                await asyncio.sleep(_RETRY_CLAIM_SECONDS)
                continue
            claimed, failing = len(runs), False
            # One that has become blocked in between gives its run back.
            free_slots = self._free_slots(also_blocked=True)
            for (run, attempt), loop in zip(runs, free_slots, strict=False):
                self._start(run, attempt, loop)

    def _free_slots(self, *, also_blocked: bool = False) -> list[JobLoop]:
        """For each job that could be begun, its loop; those that answer come first."""
        taken = Counter(job.loop for job in self.jobs)
        free = [loop for loop in self._loops for _ in range(self._jobs_a_loop - taken[loop])]
        free.sort(key=self.watchdog.is_blocked)
        return free if also_blocked else [loop for loop in free if not self.watchdog.is_blocked(loop)]

    def _start(self, run: dict[str, Any], attempt: int, loop: JobLoop) -> None:
        from langgraph_api.worker import worker

        lease = held(run["run_id"])
        if lease is None:
            raise RuntimeError(f"Run {run['run_id']} was claimed without a lease")
        report_wait(run, attempt)
        work: Coroutine[Any, Any, Any] = worker(run, attempt, self._main_loop)
        lease.work = work
        job = Job(run, lease, loop, loop.submit(work))
        self.jobs.add(job)
        self._do(self._see_through(job))
        if self.watchdog.is_blocked(loop):
            self._give_back(loop)

    def _on_loop_change(self, loop: JobLoop) -> None:
        with suppress(RuntimeError):  # the main loop is closed: the process ends
            self._main_loop.call_soon_threadsafe(self._give_back, loop)

    def _give_back(self, loop: JobLoop) -> None:
        """What has not begun on a loop that is blocked now may begin in another process."""
        self._slot_freed.set()
        if not self.watchdog.is_blocked(loop):
            return
        waiting = [job for job in self.jobs if job.loop is loop and job.worker.withdraw()]
        for job in waiting:
            job.lease.is_handed_back = True
        if waiting:
            run_ids = [str(job.run["run_id"]) for job in waiting]
            logger.info("Handing back jobs that a blocked loop kept waiting", run_ids=run_ids)

    async def _see_through(self, job: Job) -> None:
        """Wait for a job's end, and see that its run goes on if it has not ended."""
        try:
            await job.worker
        except _EXPECTED as error:
            # The worker has logged it. It has settled too, if it came that far.
            await settle(job.lease, error)
        except Exception as error:
            await logger.aexception(
                "A worker failed; its run is tried again",
                run_id=str(job.run["run_id"]),
                thread_id=str(job.run["thread_id"]),
                exc_info=error,
            )
            await settle(job.lease, error)
        finally:
            heartbeat().release(job.lease)
            self.jobs.discard(job)
            self._slot_freed.set()

    async def _wait_for_jobs(self, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while self.jobs and (left := deadline - time.monotonic()) > 0:
            self._slot_freed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._slot_freed.wait()
            except TimeoutError:
                return

    async def _hand_back(self) -> None:
        """Stop what still runs; its runs go back to the queue at once, uncounted."""
        if not self.jobs:
            return
        handed_back = list(self.jobs)
        await logger.ainfo("Handing back jobs", run_ids=[str(job.run["run_id"]) for job in handed_back])
        for job in handed_back:
            job.lease.is_handed_back = True
            job.worker.cancel()
        await self._wait_for_jobs(_HAND_BACK_SECONDS)
        for job in list(self.jobs):
            await settle(job.lease, asyncio.CancelledError())
            heartbeat().release(job.lease)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
