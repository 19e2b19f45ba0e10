"""Writes checkpoints, in the order in which they come, with as few statements as the database's pace allows.

What comes while a statement is under way goes out together with the next one. A graph whose steps are quick
thus waits for a round trip now and then instead of several for each step, and one with slow steps has every
step saved at once.

Under the durability "async", the server's default, a step does not wait for its checkpoint anyway: there the
writer takes it, and saves it some milliseconds later behind the run's back. What is left at the run's end is
saved by the statement that ends it. Reads wait for all of it.
A statement that the database did not take is repeated: it changes nothing when it is written twice.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg
from psycopg.types.json import Jsonb

from langgraph_runtime_holdfast.database import Handle, Transaction
from langgraph_runtime_holdfast.limits import check_size
from langgraph_runtime_holdfast.metrics.meters import meters
from langgraph_runtime_holdfast.retry import patiently

# A standby that was behind and took over lacks what was saved last. Whoever went on from that would leave
# a hole, and channels that did not change since would have no value. If it is there, so is all before it.
MAY_SAVE: Final = """
may_save_after_v1(
    held_run => %(run_id)s, held_token => %(token)s,
    after_thread => %(after_thread)s, after_ns => %(after_ns)s, after_id => %(after_id)s
)
"""
"""A condition, with a run, its lease's token and what `CheckpointWriter.basis` gives."""
# As text an array of ten megabytes takes seconds to escape, in which nothing else of the process runs.
_SAVE: Final = f"""
SELECT save_checkpoints_v2(
    held_run => %(run_id)s, held_token => %(token)s, saved => %(saved)s, blobs => %(blobs)b::bytea[]
) WHERE {MAY_SAVE}
"""
LEASE_LOST: Final = "HF001"
_BEHIND_SECONDS: Final = 0.005
_MOST_BEHIND: Final = 64
_MOST_BYTES_BEHIND: Final = 4 * 1024 * 1024

Row = dict[str, Any]


class Batch:
    """Rows of the checkpointer's tables that are written together."""

    def __init__(self) -> None:
        """Begin with none."""
        self.blobs: list[bytes | None] = []
        self.size_bytes = 0
        self.entries = 0
        self.begun_at = time.monotonic()
        self.written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever has not waited is told by the run's end.
        self.written.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._blobs: dict[tuple[Any, ...], Row] = {}
        self._checkpoints: dict[tuple[str, str, str], Row] = {}
        self._writes: dict[tuple[Any, ...], Row] = {}
        self._rewrites: dict[tuple[Any, ...], Row] = {}

    def add_blob(
        self, thread_id: str, namespace: str, channel: str, version: str, kind: str, blob: bytes | None
    ) -> None:
        """Add a channel's value at a version; a version has one value.

        Raises:
            TooLargeError: It is larger than HOLDFAST_LARGEST_MB.
        """
        _check(channel, blob)
        key = (thread_id, namespace, channel, version)
        if key not in self._blobs:
            self._blobs[key] = {
                **{"thread_id": thread_id, "checkpoint_ns": namespace, "channel": channel},
                **{"version": version, "type": kind, "at": self._keep(blob)},
            }

    def add_checkpoint(
        self, thread_id: str, namespace: str, checkpoint_id: str, parent_id: str | None, body: Any, meta: Any
    ) -> None:
        """Add a checkpoint; the last of one id counts."""
        self.entries += 1
        self._checkpoints[thread_id, namespace, checkpoint_id] = {
            **{"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id},
            **{"parent": parent_id, "checkpoint": body, "metadata": meta},
        }

    def add_writes(self, rows: Sequence[tuple[Any, ...]], run: str | None, *, replace: bool) -> None:
        """Add what a task has written: thread, namespace, checkpoint, task, path, index, channel, type, blob.

        The first of one task and index counts, or the last if they are to replace one another.

        Raises:
            TooLargeError: One is larger than HOLDFAST_LARGEST_MB; none is added.
        """
        for row in rows:
            _check(row[6], row[8])
        self.entries += 1
        for thread_id, namespace, checkpoint_id, task_id, path, index, channel, kind, blob in rows:
            key = (thread_id, namespace, checkpoint_id, task_id, index)
            if not replace and (key in self._writes or key in self._rewrites):
                continue
            self._writes.pop(key, None)
            (self._rewrites if replace else self._writes)[key] = {
                **{"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id},
                **{"task_id": task_id, "task_path": path, "idx": index, "channel": channel},
                **{"type": kind, "at": self._keep(blob), "run": run},
            }

    def is_full(self) -> bool:
        """Whether more should wait until this is written."""
        return self.entries >= _MOST_BEHIND or self.size_bytes >= _MOST_BYTES_BEHIND

    def parameters(self) -> dict[str, Any]:
        """What `save_checkpoints_v2` and `end_run_v2` take."""
        lists = {
            "blobs": self._blobs,
            "checkpoints": self._checkpoints,
            "writes": self._writes,
            "rewrites": self._rewrites,
        }
        saved = {name: list(rows.values()) for name, rows in lists.items() if rows}
        return {"saved": Jsonb(saved, _json), "blobs": self.blobs}

    def last_checkpoint(self) -> tuple[str, str, str] | None:
        """Thread, namespace and id of the checkpoint that was added last, if there is one."""
        return next(reversed(self._checkpoints), None)

    def _keep(self, blob: bytes | None) -> int:
        self.blobs.append(blob)
        self.size_bytes += len(blob or b"")
        return len(self.blobs)


class CheckpointWriter:
    """Writes batches one after the other; belongs to a loop, and to a run if it works under a lease."""

    def __init__(
        self,
        run_id: UUID | None = None,
        token: int | None = None,
        *,
        behind: bool = False,
        check: Callable[[], None] | None = None,
        transaction: Transaction | None = None,
    ) -> None:
        """Write nothing yet.

        Args:
            run_id: The run that saves; None for a caller of the API.
            token: Its lease's.
            behind: Take entries without waiting for them to be written.
            check: Raises if the run may be another worker's. What it saves is taken all the same: if it is
                not, a finished step need not be done again.
            transaction: Where to write; without it each statement is committed by itself, and repeated if the
                connection dies.
        """
        self._check = check
        self._transaction = transaction
        self._lease = {"run_id": run_id, "token": token}
        self._behind = behind
        self._next: Batch | None = None
        self._under_way: Batch | None = None
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._hurry = asyncio.Event()
        self._last_saved: tuple[str, str, str] | None = None
        self.has_begun = False
        """Something was added, though it may not be written yet."""

    def batch(self) -> Batch:
        """The batch that is written next, to add to; `save` has to follow at once."""
        self.has_begun = True
        if self._next is None:
            self._next = Batch()
        return self._next

    async def save(self) -> None:
        """Have what was added written.

        Raises:
            LeaseLostError: The run is another worker's now, or was deleted.
            psycopg.Error: The database did not take it, or did not take something before it.
        """
        self._raise_earlier()
        batch = self.batch()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_on())
        if self._check is not None:
            self._check()
        if not self._behind or batch.is_full():
            self._hurry.set()
            await asyncio.shield(batch.written)

    def lag_seconds(self) -> float:
        """How long the oldest entry that is not written yet has waited; from any thread."""
        for batch in (self._under_way, self._next):
            if batch is not None:
                return time.monotonic() - batch.begun_at
        return 0.0

    async def settle(self) -> None:
        """Wait until everything is written.

        Raises:
            LeaseLostError: The run is another worker's now, or was deleted.
            psycopg.Error: Something was not taken.
        """
        self._hurry.set()
        for batch in (self._under_way, self._next):
            if batch is not None:
                await asyncio.shield(batch.written)
        self._raise_earlier()

    async def take_rest(self) -> Batch | None:
        """Wait for what is being written; returns what is not, for the caller to write.

        Raises:
            LeaseLostError: The run is another worker's now, or was deleted.
            psycopg.Error: Something was not taken.
        """
        if self._under_way is not None:
            await asyncio.shield(self._under_way.written)
        self._raise_earlier()
        rest, self._next = self._next, None
        return rest

    @property
    def basis(self) -> dict[str, str | None]:
        """What `MAY_SAVE` takes: the checkpoint that a run's next ones build on."""
        names = ("after_thread", "after_ns", "after_id")
        return dict(zip(names, self._last_saved or (None, None, None), strict=True))

    def _raise_earlier(self) -> None:
        # A checkpoint must not be saved without those before it.
        if self._error is not None:
            raise self._error

    async def _write_on(self) -> None:
        while self._next is not None:
            await self._gather()
            batch, self._next = self._next, None
            if batch is None:  # the run's end has taken it
                return
            self._under_way = batch
            try:
                if self._error is not None:
                    raise self._error  # noqa: TRY301 - told to this batch as well
                write = functools.partial(self._write, batch)
                await (write() if self._transaction is not None else patiently(write))
            except BaseException as error:
                self._error = error
                batch.written.set_exception(_cause(error))
                if isinstance(error, asyncio.CancelledError):
                    raise
            else:
                batch.written.set_result(None)
                meters().save_seconds.observe(time.monotonic() - batch.begun_at)
            finally:
                self._under_way = None

    async def _gather(self) -> None:
        if not self._behind:
            # What a step writes and its checkpoint come within one pass of the loop.
            await asyncio.sleep(0)
            return
        self._hurry.clear()
        if self._next is not None and self._next.is_full():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_BEHIND_SECONDS):
                await self._hurry.wait()

    async def _write(self, batch: Batch) -> None:
        from langgraph_runtime_holdfast.ops.lease import LeaseLostError, StepsLostError

        parameters = {**self._lease, **batch.parameters(), **self.basis}
        try:
            done = await (self._transaction or Handle()).fetch_one(_SAVE, parameters, often=True)
        except psycopg.DatabaseError as error:
            if error.sqlstate != LEASE_LOST:
                raise
            raise LeaseLostError(
                "The run is another worker's now, or was deleted; nothing is saved."
            ) from None
        if done is None:
            raise StepsLostError
        if self._lease["run_id"] is not None:  # callers of the API delete what they like
            self._last_saved = batch.last_checkpoint() or self._last_saved


def _check(channel: str, blob: bytes | None) -> None:
    check_size(f"The value of the channel {channel!r}", len(blob or b""))


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)


def _cause(error: BaseException) -> BaseException:
    # A future that holds a cancellation would cancel whoever waits for it.
    if isinstance(error, asyncio.CancelledError):
        return RuntimeError("The event loop ended before a checkpoint was written")
    return error
