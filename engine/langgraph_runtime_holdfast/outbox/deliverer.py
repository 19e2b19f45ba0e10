"""Delivers what the outbox holds, in every process that executes runs.

Callbacks that are due are claimed as there are free slots, and each is attempted in a task of its own. One
receiver gets a part of the slots only, so that a slow one does not hold up the others. When the process dies,
its claims lapse and another process delivers; when it stops, attempts under way may finish, and the rest are
given back.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from langgraph_runtime_holdfast.database import connect
from langgraph_runtime_holdfast.log_ids import name_run
from langgraph_runtime_holdfast.metrics.meters import meters
from langgraph_runtime_holdfast.outbox import bell, rows
from langgraph_runtime_holdfast.outbox.bell import Bell
from langgraph_runtime_holdfast.outbox.message import webhooks_are_on
from langgraph_runtime_holdfast.outbox.post import Outcome, Poster
from langgraph_runtime_holdfast.outbox.rows import Claim
from langgraph_runtime_holdfast.outbox.schedule import back_off_seconds
from langgraph_runtime_holdfast.retry import TRANSIENT
from langgraph_runtime_holdfast.settings import settings

logger = structlog.stdlib.get_logger(__name__)

_PART_OF_A_HOST: Final = 4
_MOST_BYTES: Final = 64_000_000
_REST_SECONDS: Final = 1.0
_FINISH_SECONDS: Final = 5.0
_RELEASE_SECONDS: Final = 3.0
_LONGEST_IF_ASKED_SECONDS: Final = 60.0
_SWEEP_SECONDS: Final = 300.0
_SWEEP_ROWS: Final = 1000
# How long an outcome is kept for a database that is away; then the callback is delivered again.
_CONCLUDE_TRIES: Final = 60
_NOT_NOW: Final[tuple[type[BaseException], ...]] = (*TRANSIENT, TimeoutError)


@asynccontextmanager
async def delivering() -> AsyncIterator[None]:
    """Deliver callbacks for as long as the block lasts."""
    if not webhooks_are_on():
        yield
        return
    deliverer = Deliverer(Poster())
    bell.hang(deliverer.bell)
    deliverer.start()
    try:
        yield
    finally:
        bell.hang(None)
        await deliverer.stop()


class Deliverer:
    """The attempts that this process makes."""

    def __init__(self, poster: Poster) -> None:
        """Claim nothing yet."""
        self.bell = Bell()
        self._poster = poster
        self._slots = settings().callback_concurrency
        self._room = _Room(_MOST_BYTES)
        self._of_a_host = max(1, self._slots // _PART_OF_A_HOST)
        self._attempts: dict[asyncio.Task[None], Claim] = {}
        self._stopping = False
        self._claiming: asyncio.Task[None] | None = None
        self._helpers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to claim."""
        self._claiming = asyncio.create_task(self._claim_on(), name="outbox")
        self._helpers = [asyncio.create_task(work) for work in (self._renew_on(), _sweep_on())]

    async def stop(self) -> None:
        """Claim no more, let attempts finish, give the rest back."""
        self._stopping = True
        self.bell.ring()
        if self._claiming is not None:
            # Not cancelled: a claim that is under way must be known.
            await asyncio.wait([self._claiming], timeout=_RELEASE_SECONDS)
            self._claiming.cancel()
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=_FINISH_SECONDS)
        for task in [*self._attempts, *self._helpers]:
            task.cancel()
        left = list(self._attempts.values())
        await asyncio.gather(*self._attempts, *self._helpers, return_exceptions=True)
        if left:
            await _give_back(left)
        await self._poster.close()

    async def _claim_on(self) -> None:
        failing = False
        while not self._stopping:
            self.bell.silence()
            try:
                await self._claim_all()
                failing = False
            except Exception as error:
                if not failing:
                    failing = True
                    await logger.awarning("No callbacks can be claimed now; trying on", error=str(error))
                await asyncio.sleep(_REST_SECONDS)
                continue
            await self.bell.wait(settings().poll_seconds)

    async def _claim_all(self) -> None:
        """Claim as long as there are free slots and callbacks for them."""
        while not self._stopping and (free := self._slots - len(self._attempts)) > 0:
            of_hosts = Counter(each.host for each in self._attempts.values())
            full = [host for host, number in of_hosts.items() if number >= self._of_a_host]
            limit = min(free, self._of_a_host)
            async with connect() as handle:
                claims = await rows.claim(handle, limit, full)
            for claimed in claims:
                task = asyncio.create_task(self._attempt(claimed), name=f"callback-{claimed.id}")
                self._attempts[task] = claimed
                task.add_done_callback(self._forget)
            if len(claims) < limit:
                return

    def _forget(self, task: asyncio.Task[None]) -> None:
        claimed = self._attempts.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error(
                "What came of a callback could not be noted; it is delivered again",
                callback_id=str(claimed.id),
                exc_info=error,
            )
        # A slot is free.
        self.bell.ring()

    async def _attempt(self, claimed: Claim) -> None:
        # In a task of its own: whatever is logged here, also by the HTTP client, names the run.
        name_run(claimed.run_id, claimed.thread_id, claimed.request_id)
        try:
            async with self._room.taken(claimed.size_bytes), connect() as handle:
                body = await rows.read_body(handle, claimed)
                if body is None:
                    return
                outcome = await self._poster.post(claimed, body)
                del body
        except TRANSIENT as error:
            # The database's fault, and not the receiver's: the claim lapses, and the attempt is made again.
            await logger.awarning("A callback cannot be read now", error=str(error))
            return
        except Exception as error:
            # A fault of ours, or of the deployment's encryption. The callback must not be lost by it.
            await logger.aexception(
                "A callback could not be sent", run_id=str(claimed.run_id), host=claimed.host, exc_info=error
            )
            outcome = Outcome(error=f"{type(error).__name__}: {error}"[:200])
        for _ in range(_CONCLUDE_TRIES):
            try:
                await _conclude(claimed, outcome)
            except TRANSIENT:
                await asyncio.sleep(_REST_SECONDS)
            else:
                return
        await logger.aerror(
            "What came of a callback could not be noted; it is delivered again",
            run_id=str(claimed.run_id),
            callback_id=str(claimed.id),
        )

    async def _renew_on(self) -> None:
        while True:
            await asyncio.sleep(rows.LEASE_SECONDS / 3)
            if not (claims := list(self._attempts.values())):
                continue
            try:
                async with connect() as handle:
                    await rows.renew(handle, claims)
            except TRANSIENT as error:
                # They lapse: another process delivers them too, under the same id.
                await logger.awarning("Claims of callbacks cannot be renewed now", error=str(error))


class _Room:
    """How many bytes of callbacks are in memory at once; a larger one is there alone."""

    def __init__(self, size_bytes: int) -> None:
        self._free = self._size = size_bytes
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def taken(self, size_bytes: int) -> AsyncIterator[None]:
        """Wait for room, and use it for as long as the block lasts."""
        wanted = min(size_bytes, self._size)
        async with self._changed:
            await self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            self._free += wanted
            async with self._changed:
                self._changed.notify_all()


async def _conclude(claimed: Claim, outcome: Outcome) -> None:
    ids = {"run_id": str(claimed.run_id), "callback_id": str(claimed.id), "host": claimed.host}
    async with connect() as handle:
        if outcome.error is None:
            await rows.conclude_delivered(handle, claimed, outcome.status or 0)
            meters().callback_attempts.labels("delivered").inc()
            await logger.ainfo("Delivered a callback", **ids, attempts=claimed.attempts)
            return
        delay = back_off_seconds(claimed.attempts)
        if outcome.retry_after_seconds is not None:
            # It names a time, so it is alive: not before that time, and not much later.
            delay = max(outcome.retry_after_seconds, min(delay, _LONGEST_IF_ASKED_SECONDS))
        is_dead = await rows.conclude_failed(
            handle,
            claimed,
            status=outcome.status,
            error=outcome.error,
            delay_seconds=delay,
            is_final=outcome.is_final,
        )
    meters().callback_attempts.labels("dead" if is_dead else "failed").inc()
    if is_dead:
        await logger.aerror(
            "A callback is given up; `holdfast callbacks replay` sends it again",
            **ids,
            attempts=claimed.attempts,
            error=outcome.error,
        )
    else:
        await logger.awarning(
            "A callback is tried again later", **ids, attempts=claimed.attempts, error=outcome.error
        )


async def _give_back(claims: list[Claim]) -> None:
    try:
        async with asyncio.timeout(_RELEASE_SECONDS), connect() as handle:
            await rows.release(handle, claims)
    except _NOT_NOW as error:
        await logger.awarning(
            "Claims of callbacks could not be given back; they lapse by themselves", error=str(error)
        )


async def _sweep_on() -> None:
    """Delete what has been kept long enough."""
    while True:
        # Not all processes at once.
        await asyncio.sleep(_SWEEP_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load
        try:
            async with connect() as handle:
                while await rows.sweep(handle, _SWEEP_ROWS) == _SWEEP_ROWS:
                    pass
        except Exception as error:
            await logger.awarning("Old callbacks cannot be swept now", error=str(error))
