"""The background loop: every row is verified, then handled, however often that takes.

A row is claimed with a lease, so a receiver that dies with it loses nothing: another (or the next start)
takes the row when the lease lapses. Faults push the row back with a growing delay; none of them drops it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from sdk_client.callbacks.database import DatabaseAwayError
from sdk_client.callbacks.events import RunEvent, RunHandler
from sdk_client.callbacks.inbox import Claim, Inbox
from sdk_client.callbacks.settings import CallbackSettings
from sdk_client.callbacks.verify import RunReader, UnreadableRunError

logger = logging.getLogger(__name__)

_FIRST_DELAY_SECONDS: Final = 1.0
_MAX_DELAY_SECONDS: Final = 60.0
_LEASE_MARGIN_SECONDS: Final = 2.0
_CLAIM_SECONDS: Final = 2.0
_SHUTDOWN_SECONDS: Final = 10.0
_CLEAN_EVERY_SECONDS: Final = 3600.0
_CLEAN_ROWS: Final = 500
_ERROR_CHARACTERS: Final = 500


class Processor:
    """Works on the inbox from `start` to `stop`, woken by `wake` and by its own poll."""

    def __init__(
        self, inbox: Inbox, reader: RunReader, handler: RunHandler, settings: CallbackSettings
    ) -> None:
        """Name the parts; nothing runs yet."""
        self._inbox = inbox
        self._reader = reader
        self._handler = handler
        self._settings = settings
        self._woken = asyncio.Event()
        self._stopping = False
        self._loops: list[asyncio.Task[None]] = []
        self._working: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start the loops in the running event loop."""
        self._loops = [asyncio.create_task(self._work()), asyncio.create_task(self._clean())]
        for loop in self._loops:
            loop.add_done_callback(_report_fault)

    def wake(self) -> None:
        """There is a new row."""
        self._woken.set()

    @property
    def is_running(self) -> bool:
        """Whether the loops are alive; they end only by `stop` or by a fault of their own."""
        return bool(self._loops) and not any(loop.done() for loop in self._loops)

    async def stop(self) -> None:
        """Claim nothing more and let rows in work finish for 10 s; what is cut off is claimed again later."""
        self._stopping = True
        self._woken.set()
        work, clean = self._loops
        clean.cancel()
        # Usually at once; with a database that hangs the claim in flight is left to its lease.
        await asyncio.wait({work, clean}, timeout=_CLAIM_SECONDS)
        work.cancel()
        await asyncio.wait({work, clean})
        if self._working:
            _, late = await asyncio.wait(self._working, timeout=_SHUTDOWN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _work(self) -> None:
        while not self._stopping:
            self._woken.clear()
            free = self._settings.concurrency - len(self._working)
            claims: list[Claim] = []
            if free > 0:
                try:
                    claims = await self._inbox.claim(
                        limit=free,
                        verify_lease_seconds=self._settings.verify_timeout_seconds + _LEASE_MARGIN_SECONDS,
                        handler_lease_seconds=self._settings.handler_timeout_seconds + _LEASE_MARGIN_SECONDS,
                    )
                except DatabaseAwayError:
                    logger.debug("no rows claimed while the database is away")
            for claim in claims:
                task = asyncio.create_task(self._process(claim))
                self._working.add(task)
                task.add_done_callback(self._finish)
            # Either every due row is taken, or every slot is: the next end of work wakes the loop.
            await self._rest()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._settings.poll_seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        self._woken.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a row was left for its lease to lapse", exc_info=error)

    async def _process(self, claim: Claim) -> None:
        try:
            if claim.state == "received":
                await self._verify(claim)
            else:
                await self._handle(claim)
        except DatabaseAwayError as error:
            logger.warning("run_id=%s is tried again when its lease lapses: %s", claim.run_id, error)

    async def _verify(self, claim: Claim) -> None:
        try:
            async with asyncio.timeout(self._settings.verify_timeout_seconds):
                reading = await self._reader.read(str(claim.thread_id), str(claim.run_id))
        except UnreadableRunError as error:
            await self._fail(claim, "verified", str(error))
        except TimeoutError:
            await self._fail(claim, "verified", "the server did not answer in time")
        else:
            if reading is None:
                logger.warning("unknown to the server run_id=%s thread_id=%s", claim.run_id, claim.thread_id)
                await self._inbox.mark_unknown(claim)
                return
            await self._inbox.mark_verified(
                claim, status=reading.status, awaits_approval=reading.awaits_approval
            )

    async def _handle(self, claim: Claim) -> None:
        assert claim.status is not None
        assert claim.verified_at is not None
        event = RunEvent(
            run_id=str(claim.run_id),
            thread_id=str(claim.thread_id),
            status=claim.status,
            awaits_approval=bool(claim.awaits_approval),
            reported_status=claim.reported_status,
            received_at=claim.received_at,
            verified_at=claim.verified_at,
        )
        try:
            async with asyncio.timeout(self._settings.handler_timeout_seconds):
                await self._handler(event)
        except Exception as error:  # a handler is somebody else's code: whatever it raises, the row stays due
            await self._fail(claim, "handled", f"{type(error).__name__}: {error}")
        else:
            await self._inbox.mark_handled(claim)

    async def _fail(self, claim: Claim, goal: str, error: str) -> None:
        delay_seconds = _delay_seconds(claim.attempts)
        error = " ".join(error.split())[:_ERROR_CHARACTERS]
        logger.warning(
            "run_id=%s thread_id=%s not %s at attempt %d, again in %.1f s: %s",
            claim.run_id,
            claim.thread_id,
            goal,
            claim.attempts,
            delay_seconds,
            error,
        )
        await self._inbox.mark_failed(claim, error=error, delay_seconds=delay_seconds)

    async def _clean(self) -> None:
        while True:
            try:
                deleted = await self._inbox.delete_old(
                    age_days=self._settings.retention_days, limit=_CLEAN_ROWS
                )
            except DatabaseAwayError:
                deleted = 0
                logger.debug("no old rows deleted while the database is away")
            if deleted:
                logger.info("deleted %d rows older than %g days", deleted, self._settings.retention_days)
            if deleted < _CLEAN_ROWS:
                await asyncio.sleep(_CLEAN_EVERY_SECONDS)


def _report_fault(loop: asyncio.Task[None]) -> None:
    if not loop.cancelled() and (error := loop.exception()) is not None:
        logger.critical("a background loop has ended, /ok says so until a restart", exc_info=error)


def _delay_seconds(attempts: int) -> float:
    ceiling: float = min(_MAX_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2 ** min(attempts - 1, 10))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
