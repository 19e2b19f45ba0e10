"""Leases: who may work on a run and write its end, and the heartbeat that keeps them.

A claim gives a run's worker a lease with a token that rises with every claim. Whatever the worker writes
about the run carries the token, so one whose lease went to somebody else can write nothing more. The lease
lasts as long as this process's heartbeat extends it; the heartbeat is a thread with a connection of its own,
which a blocked event loop cannot stop. It also brings wishes to cancel whose signal was lost.

A worker that cannot extend its leases, because it is cut off or was stopped, does not learn from the database
that others may have its runs. It tells by the clock, and stops its jobs before anybody else may begin them.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg
import structlog
from psycopg.conninfo import make_conninfo

from langgraph_runtime_holdfast.checkpoint_writer import CheckpointWriter
from langgraph_runtime_holdfast.connection import ThreadConnection, quick_seconds
from langgraph_runtime_holdfast.metrics.meters import meters
from langgraph_runtime_holdfast.retry import RetryableException
from langgraph_runtime_holdfast.settings import settings

logger = structlog.stdlib.get_logger(__name__)

# The bound is the transaction's, because one of the session would be everybody's behind a pooler. An
# extension does not wait for a disk that is busy with states: after a crash there is time to extend again.
_BOUND: Final = """
SELECT set_config('statement_timeout', '{timeout_ms}', true), set_config('synchronous_commit', 'off', true);
"""
_EXTEND: Final = """
UPDATE run_inflight SET leased_until = now() + make_interval(secs => {seconds})
WHERE run_id IN (
    SELECT run_id FROM run_inflight AS run
    JOIN unnest('{{{run_ids}}}'::uuid[], '{{{tokens}}}'::bigint[]) AS held (run_id, token) USING (run_id)
    WHERE run.lease_token = held.token AND run.status = 'running'
    -- Whoever saves holds the row FOR KEY SHARE, which this goes along with. What is locked otherwise is
    -- being ended or cancelled, and nobody else can take it meanwhile.
    FOR NO KEY UPDATE OF run SKIP LOCKED
)
RETURNING run_id
"""
_EXTEND_TRIES: Final = 3
_EXTEND_PAUSE_SECONDS: Final = 0.05
_EXTEND_AT: Final = 5 / 6
"""Of a lease. Often, because the one who extends may have to wait for seconds until it is its turn."""
_LONGEST_LOOK_SECONDS: Final = 1.0
# A run that has just ended is still the worker's, until it lets go of it.
_LOOK: Final = """
SELECT run_id, coalesce(flight.lease_token, run.lease_token), cancel_action, cancel_reason
FROM run LEFT JOIN run_inflight AS flight USING (run_id) WHERE run_id = ANY('{{{run_ids}}}'::uuid[])
"""


class LeaseLostError(RetryableException):
    """The run was deleted, or went to another worker; this one writes nothing more about it."""


class StepsLostError(RetryableException):
    """The database has forgotten steps that it had saved, as a standby does that was behind and took over."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__(
            "The database has lost steps that it had saved (a standby that was behind took over?); "
            "the run goes on from the last one that is there."
        )


class LeaseLapsedError(RetryableException):
    """The lease could not be extended in time, so another worker may begin the run; no attempt is counted."""


def now() -> float:
    """Seconds of a clock that goes on while this process is stopped, or the machine sleeps."""
    return time.clock_gettime(_CLOCK)


_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(eq=False, slots=True)
class Lease:
    """The right to work on one run."""

    run_id: UUID
    thread_id: UUID
    token: int
    attempt: int
    """1 for the first."""
    first_error: str | None = None
    """What ended the first attempt that failed."""
    temporary: bool = False
    """The run's thread is deleted with it, so its result is nowhere in the database."""
    deaths: int = 0
    """How many workers have died while they worked on it."""
    on_new_thread: bool = False
    """The thread had no checkpoint when the run was claimed; nobody else writes one while it is busy."""
    saves_behind: bool = False
    """The graph's steps do not wait for their checkpoints."""
    run: dict[str, Any] = field(default_factory=dict)
    """The run as its worker has it, with what the worker changes in it."""
    work: Coroutine[Any, Any, Any] | None = None
    """The worker."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    held_until: float = math.inf
    """By `now()`, counted from before the claim or the extension was sent: until then nobody else has it."""
    is_lost: bool = False
    has_lapsed: bool = False
    """It could not be extended in time, and the work was ended for that."""
    is_handed_back: bool = False
    """The run goes on elsewhere, or later, and this attempt does not count."""
    is_settled: bool = False
    """Whoever waits for the run's end was told, or the run is in the queue again."""
    is_ending: bool = False
    """Its end is being written, under its token; nothing of the graph runs any more."""
    has_ended: bool = False
    """By this worker's own word."""
    has_next: bool = True
    """Another run may wait for this one's end."""
    listener: str | None = None
    """The process that waits for the run's events."""
    events_told: int = 0
    events_sent: int = 0
    """To the listener, in another process."""
    events_lost: bool = False
    last_state: tuple[str, bytes] | None = None
    _writer: CheckpointWriter | None = None
    _stop_with: Exception | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _done: Any = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def writer(self) -> CheckpointWriter:
        """What saves the run's checkpoints; for the loop that works on it."""
        if self._writer is None:
            self._writer = CheckpointWriter(
                self.run_id, self.token, behind=self.saves_behind, check=self.require
            )
        return self._writer

    def save_lag_seconds(self) -> float:
        """How long the oldest checkpoint that is not saved yet has waited."""
        return 0.0 if self._writer is None else self._writer.lag_seconds()

    async def settle_saves(self) -> None:
        """Wait until all checkpoints are in the database.

        Raises:
            LeaseLostError: The run is another worker's now, or was deleted.
            psycopg.Error: One of them was not taken.
        """
        if self._writer is not None:
            await self._writer.settle()

    def note_lost_events(self) -> None:
        """Valkey did not take what it was told; who listens there must look into the database."""
        self.events_lost = True

    @property
    def graph_id(self) -> str:
        """Which graph the run executes."""
        configurable = (self.run.get("kwargs", {}).get("config") or {}).get("configurable") or {}
        return str(configurable.get("graph_id", ""))

    @property
    def webhook(self) -> str | None:
        """Where the run's end is reported."""
        url: str | None = self.run["kwargs"].get("webhook") if self.run else None
        return url

    def stop(self, reason: Exception) -> bool:
        """End the work with this exception, from any thread; only the first one counts.

        Returns:
            Whether this was the first.
        """
        with self._lock:
            if self._stop_with is not None:
                return False
            self._stop_with = reason
            # Before the work learns of it, which then asks whether its attempt counts.
            if isinstance(reason, LeaseLapsedError):
                self.has_lapsed = self.is_handed_back = True
            loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed, and the work with it
                loop.call_soon_threadsafe(self._done.set, reason)
        return True

    @property
    def is_stopping(self) -> bool:
        """Whether the work was told to end, for whatever reason."""
        return self._stop_with is not None

    def fence_at(self) -> float:
        """By `now()`, when the work has to be stopped unless the lease is extended before.

        Never while its end is written: that has the lease's row for itself, so that nobody can extend it, and
        nobody take it. If the end comes too late all the same, the token keeps it out. Nor after it.
        """
        if self.is_ending or self.has_ended:
            return math.inf
        return self.held_until - settings().lease_seconds / 10

    def lapse(self) -> bool:
        """End the work, since another worker may begin it soon; returns whether this call did so.

        What has been done stays with the writer, and is saved if the run is still this worker's when the
        database comes back.
        """
        is_first = self.stop(LeaseLapsedError(f"The lease of run {self.run_id} has lapsed"))
        if is_first:
            meters().leases_lapsed.inc()
        return is_first

    def require(self) -> None:
        """Stop the work here if nobody can say any more whose it is.

        Raises:
            LeaseLapsedError: The lease could not be extended in time.
        """
        if now() >= self.fence_at():
            self.lapse()
        if self.has_lapsed:
            raise LeaseLapsedError(f"The lease of run {self.run_id} has lapsed")

    def lose(self) -> None:
        """Note that the lease is gone, and end the work."""
        self.is_lost = True
        self.stop(LeaseLostError(f"Run {self.run_id} was deleted or went to another worker"))

    def cancel(self, action: str, reason: str | None) -> None:
        """End the work as the user wishes: "interrupt" keeps what it has done, "rollback" does not."""
        from langgraph_api.errors import UserInterrupt, UserRollback

        kind = UserRollback if action == "rollback" else UserInterrupt
        self.stop(kind(reason) if reason else kind())

    @contextmanager
    def entered(self, done: Any) -> Iterator[None]:
        """Work under the lease: `done` (the server's ValueEvent) is set when the work must stop."""
        with self._lock:
            self._loop, self._done = asyncio.get_running_loop(), done
            if self._stop_with is not None:
                done.set(self._stop_with)
        previous = _current.get()
        _current.set(self)
        try:
            yield
        finally:
            _current.set(previous)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Write the run's end."""
        self.is_ending = True
        try:
            yield
            # Before the fence looks again: nobody could extend it meanwhile, so its time may be over.
            self.has_ended = True
        finally:
            self.is_ending = False

    def explained(self, error: BaseException) -> BaseException:
        """Name the first cause in an error that says only that there were too many attempts."""
        if not self._is_out_of_attempts():
            return error
        return RuntimeError(f"{error}\nFirst cause: {self.first_error}")

    def explained_event(self, message: bytes) -> bytes:
        """Do the same with the stream's error event."""
        if not self._is_out_of_attempts():
            return message
        told = orjson.loads(message)
        return orjson.dumps({**told, "message": f"{told.get('message')}\nFirst cause: {self.first_error}"})

    def _is_out_of_attempts(self) -> bool:
        from langgraph_api.config import BG_JOB_MAX_RETRIES

        return bool(self.first_error) and self.attempt > BG_JOB_MAX_RETRIES


_current: ContextVar[Lease | None] = ContextVar("lease", default=None)


def current_lease() -> Lease | None:
    """The lease under which this code runs; None outside a worker."""
    return _current.get()


def explained(error: BaseException | None) -> BaseException | None:
    """Name the first cause in an error of the run that this code works on; see `Lease.explained`."""
    lease = _current.get()
    return error if lease is None or error is None else lease.explained(error)


def current_token() -> int | None:
    """The token that guards what this code writes about its run; None outside a worker."""
    lease = _current.get()
    return lease.token if lease is not None else None


class Heartbeat(threading.Thread):
    """Extends this process's leases, and tells them when they are lost or cancelled."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        super().__init__(name="lease-heartbeat", daemon=True)
        self._leases: dict[UUID, Lease] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self.has_ended = False
        self._connection: ThreadConnection | None = None
        self._fence = _Fence(self.all_held, self._cut)
        self._fence.start()

    def hold(self, lease: Lease) -> None:
        """Keep a lease alive from now on."""
        with self._lock:
            self._leases[lease.run_id] = lease
        self._changed.set()
        self._fence.changed.set()

    def held(self, run_id: UUID) -> Lease | None:
        """The lease that this process holds on a run."""
        with self._lock:
            return self._leases.get(run_id)

    def all_held(self) -> list[Lease]:
        """Every lease of this process."""
        with self._lock:
            return list(self._leases.values())

    def release(self, lease: Lease) -> None:
        """Let a lease go; it runs out, unless the run's end has been written."""
        with self._lock:
            if self._leases.get(lease.run_id) is lease:
                del self._leases[lease.run_id]

    def end(self) -> None:
        """Stop beating; what is still held runs out."""
        self.has_ended = self._fence.has_ended = True
        self._changed.set()
        self._fence.changed.set()

    def run(self) -> None:
        """Beat: extend every sixth of a lease, and look for changes every poll."""
        failing = False
        while not self.has_ended:
            if not self.all_held():
                self._changed.wait()
                self._changed.clear()
                continue
            pause = min(settings().poll_seconds, settings().lease_seconds / 6)
            time.sleep(pause / 4 if failing else pause)
            try:
                self._extend()
                self._look()
                failing = False
            except Exception as error:  # whatever it is, a thread that ends would lose every lease
                if not isinstance(error, psycopg.errors.QueryCanceled):
                    self._disconnect()
                if not failing:
                    failing = True
                    logger.warning(
                        "The heartbeat failed; it tries on", error=f"{type(error).__name__}: {error}"
                    )
        self._disconnect()

    def _extend(self) -> None:
        """Extend all leases once a sixth of one has passed; what was locked is tried again at once."""
        seconds = settings().lease_seconds
        leases = self.all_held()
        if all(lease.held_until - now() > seconds * _EXTEND_AT for lease in leases):
            return
        for tries in range(_EXTEND_TRIES):
            if tries:
                time.sleep(_EXTEND_PAUSE_SECONDS)
            asked_at = now()
            rows = self._ask(_EXTEND, leases, seconds=seconds)
            extended = {run_id for (run_id,) in rows}
            for lease in leases:
                if str(lease.run_id) in extended:
                    lease.held_until = asked_at + seconds
            leases = [lease for lease in leases if str(lease.run_id) not in extended]
            if not leases:
                return

    def _look(self) -> None:
        leases = self.all_held()
        rows = {run_id: row for run_id, *row in self._ask(_LOOK, leases)}
        for lease in leases:
            token, cancel_action, cancel_reason = rows.get(str(lease.run_id), (None, None, None))
            if token != str(lease.token):
                lease.lose()
            elif cancel_action:
                lease.cancel(cancel_action, cancel_reason)

    def _ask(self, statement: str, leases: list[Lease], **more: float) -> list[list[str | None]]:
        """A transaction in one round trip: a beat that hangs is worse than one that fails and comes again."""
        # The server gives up first, so that no statement is left there, and the connection is kept.
        timeout_ms = int(quick_seconds() * 1000 * 5 / 6)
        run_ids = ",".join(str(lease.run_id) for lease in leases)
        tokens = ",".join(str(lease.token) for lease in leases)
        # Numbers and ids only, so that it can be sent as one text.
        text = (_BOUND + statement).format(timeout_ms=timeout_ms, run_ids=run_ids, tokens=tokens, **more)
        if self._connection is None:
            wait_seconds = max(2, int(settings().lease_seconds / 3))
            dsn = make_conninfo(settings().dsn, connect_timeout=wait_seconds, client_encoding="UTF8")
            self._connection = ThreadConnection(dsn)
        return self._connection.ask(text)

    def _cut(self) -> None:
        if (connection := self._connection) is not None:
            connection.cut()

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error, OSError):
                self._connection.close()
            self._connection = None


class _Fence(threading.Thread):
    """Stops the work of leases that were not extended in time, and cuts off a Postgres that is silent.

    A thread apart, because the heartbeat may be held up by what keeps it from extending them.
    """

    def __init__(self, leases: Callable[[], list[Lease]], cut: Callable[[], None]) -> None:
        super().__init__(name="lease-fence", daemon=True)
        self._leases = leases
        self._cut = cut
        self.changed = threading.Event()
        self.has_ended = False

    def run(self) -> None:
        while not self.has_ended:
            self._cut()
            # One whose work ends anyway, because it was cancelled, say, need not be looked at.
            held = self._leases()
            leases = [lease for lease in held if not lease.is_stopping]
            lapsed = [lease for lease in leases if now() >= lease.fence_at() and lease.lapse()]
            if lapsed:
                logger.warning(
                    "Leases could not be extended in time; their jobs stop, and go on once Postgres answers",
                    run_ids=[str(lease.run_id) for lease in lapsed],
                )
            # No longer, because the machine may have slept meanwhile, or Postgres may have fallen silent.
            longest = min(_LONGEST_LOOK_SECONDS, quick_seconds() / 3)
            pause = min((lease.fence_at() - now() for lease in leases), default=longest)
            self.changed.wait(min(max(pause, 0.05), longest) if held else None)
            self.changed.clear()


_heartbeat: Heartbeat | None = None
_starting = threading.Lock()


def held(run_id: UUID) -> Lease | None:
    """The lease that this process holds on a run, if any."""
    return _heartbeat.held(run_id) if _heartbeat is not None else None


def save_lag_seconds() -> float:
    """How long the oldest unsaved checkpoint of this process has waited."""
    leases = _heartbeat.all_held() if _heartbeat is not None else []
    return max((lease.save_lag_seconds() for lease in leases), default=0.0)


def heartbeat() -> Heartbeat:
    """This process's heartbeat; it begins with the first use."""
    global _heartbeat
    with _starting:
        if _heartbeat is None or _heartbeat.has_ended or not _heartbeat.is_alive():
            _heartbeat = Heartbeat()
            _heartbeat.start()
        return _heartbeat
