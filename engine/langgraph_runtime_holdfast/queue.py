"""The queue of one process: claims runs as it has free slots, works on them, delivers callbacks.

When the process stops, it claims nothing more and lets its jobs finish within the grace period. Those that do
not are handed back, and go on elsewhere from their last checkpoint without an attempt being counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog

from langgraph_runtime_holdfast.gauges import report_wait
from langgraph_runtime_holdfast.isolated_loop import IsolatedLoop, Submission
from langgraph_runtime_holdfast.ops.lease import Lease, heartbeat, held
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
    loop: IsolatedLoop | None
    worker: Submission[Any] | asyncio.Task[Any] | None = None


class Queue:
    """The jobs of this process and the slots for them."""

    def __init__(self, slots: int, *, isolated: bool) -> None:
        """Prepare the slots; each has an event loop of its own if they are isolated."""
        self.jobs: set[Job] = set()
        self._slots = slots
        self._loops = [IsolatedLoop(f"jobs-{number}") for number in range(slots if isolated else 0)]
        self._free_loops = list(self._loops)
        self._slot_freed = asyncio.Event()
        self._stopping = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._main_loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Claim and start runs until cancelled."""
        await logger.ainfo("Starting the queue", jobs=self._slots, isolated_loops=bool(self._loops))
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
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_SETTLE_SECONDS)
            await asyncio.gather(*(loop.close(_HAND_BACK_SECONDS) for loop in self._loops))
            heartbeat().end()

    async def _claim_on(self) -> None:
        # As if all had been found: the first look is at once.
        claimed = wanted = self._slots
        failing = False
        while not self._stopping:
            if len(self.jobs) >= self._slots:
                self._slot_freed.clear()
                await self._slot_freed.wait()
                continue
            # As many as were asked for: there may be more.
            wait, wanted = claimed < wanted, self._slots - len(self.jobs)
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
            for run, attempt in runs:
                self._start(run, attempt)

    def _start(self, run: dict[str, Any], attempt: int) -> None:
        from langgraph_api.worker import worker

        lease = held(run["run_id"])
        if lease is None:
            raise RuntimeError(f"Run {run['run_id']} was claimed without a lease")
        report_wait(run, attempt)
        job = Job(run, lease, self._free_loops.pop() if self._loops else None)
        self.jobs.add(job)
        work: Coroutine[Any, Any, Any] = worker(run, attempt, self._main_loop)
        lease.work = work
        if job.loop is None:
            job.worker = asyncio.create_task(work, name=f"run-{run['run_id']}-attempt-{attempt}")
        else:
            job.worker = job.loop.submit(work)
        self._do(self._see_through(job))

    async def _see_through(self, job: Job) -> None:
        """Wait for a job's end, and see that its run goes on if it has not ended."""
        try:
            assert job.worker is not None
            await job.worker
        except _EXPECTED as error:
            # The worker has logged it. It has settled too, if it came that far.
            await settle(job.lease, error)
        except Exception as error:
            await logger.aexception(
                "A worker failed; its run is tried again", run_id=str(job.run["run_id"]), exc_info=error
            )
            await settle(job.lease, error)
        finally:
            heartbeat().release(job.lease)
            self.jobs.discard(job)
            if job.loop is not None:
                self._free_loops.append(job.loop)
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
            if job.worker is not None:
                job.worker.cancel()
        await self._wait_for_jobs(_HAND_BACK_SECONDS)
        for job in list(self.jobs):
            await settle(job.lease, asyncio.CancelledError())
            heartbeat().release(job.lease)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
