"""The checkpointer: a cheap saver for each call, over the loop's pool.

A saver has a lock of its own, so one that is shared would put all runs of a process in a row.

What it does beyond the library's saver: a run whose lease was lost, or that was deleted, can save nothing
more; a value that JSON cannot hold exactly is kept apart instead of failing the run; and whole threads are
copied, rolled back and deleted in SQL.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

import orjson
import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import AsyncCursor
from psycopg.rows import DictRow
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast import checkpoint_rows
from langgraph_runtime_holdfast.checkpoint_seal import (
    SealingSerializer,
    open_metadata,
    open_rows,
    seal_metadata,
    seals_blobs,
)
from langgraph_runtime_holdfast.checkpoint_writer import CheckpointWriter
from langgraph_runtime_holdfast.database import Executor, Handle, Transaction, pool
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.limits import check_answer

logger = structlog.stdlib.get_logger(__name__)

UnpackHook = Callable[[int, bytes], Any]

_IDENTITY_KEYS: Final = frozenset({"checkpoint_ns", "checkpoint_id", "run_id", "thread_id"})
_REQUEST_KEYS: Final = frozenset(
    {
        "langgraph_request_id",
        "langgraph_auth_user",
        "langgraph_auth_user_id",
        "langgraph_auth_permissions",
    }
)
"""Of the request that started the run, not of its state: never saved."""
_LONGEST_INLINE: Final = 256
_LARGEST_INLINE: Final = 2**53
_LARGE_PAGE_BYTES: Final = 4_000_000
_LONGEST_PAGE: Final = 128


class _Apart(NamedTuple):
    """A simple value that the library would put inline as JSON, wrapped so that it becomes a blob."""

    value: Any


class Saver(AsyncPostgresSaver):
    """A saver over the loop's pool; made for a run or a request, and used on the loop that made it."""

    def __init__(self, serde: SerializerProtocol, *, for_answer: bool = False) -> None:
        """Use this loop's pool; what is read `for_answer` of the API may have so much in all."""
        self.waits_for_loop = seals_blobs()
        """What encodes a value waits for the loop, on which the handlers of encryption run."""
        if self.waits_for_loop:
            serde = cast("SerializerProtocol", SealingSerializer(serde, asyncio.get_running_loop()))
        super().__init__(cast("Any", pool()), serde=serde)
        self.latest_iter: AsyncIterator[CheckpointTuple] | None = None
        self._own_writer: CheckpointWriter | None = None
        self._for_answer = for_answer
        self._read_bytes = 0

    def work_in(self, transaction: Transaction) -> None:
        """Read and write in a transaction from now on; what is written is committed with it."""
        self.conn = cast("Any", transaction.connection)
        self._own_writer = CheckpointWriter(transaction=transaction)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Get the checkpoint that the config names, or the thread's latest."""
        if self._finds_nothing(config):
            return None
        await self._writer().settle()
        found = await super().aget_tuple(_with_text_ids(config))
        return None if found is None else await _decrypted(found)

    async def aget_iter(self, config: RunnableConfig) -> AsyncIterator[CheckpointTuple]:
        """Yield the checkpoint that `aget_tuple` gives, if there is one."""
        if (found := await self.aget_tuple(config)) is not None:
            yield found

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """List a thread's checkpoints, the newest first; holds no connection between them.

        They are read in pages, of which one that has much is followed by one of a single checkpoint.

        Raises:
            TooLargeError: They are read for an answer, which would be too large.
        """
        await self._writer().settle()
        config, before = config and _with_text_ids(config), before and _with_text_ids(before)
        filter = filter and _as_json(filter)
        # Only within a namespace is an id enough to go on from.
        is_paged = config is not None and {"thread_id", "checkpoint_ns"} <= config["configurable"].keys()
        size, left = (1 if is_paged else limit), limit
        while True:
            asked = left if size is None or (left is not None and left < size) else size
            had = self._read_bytes
            page = [each async for each in super().alist(config, filter=filter, before=before, limit=asked)]
            for each in page:
                yield await _decrypted(each)
            if not is_paged or asked is None or len(page) < asked or asked == left:
                return
            before, left = page[-1].config, None if left is None else left - asked
            size = 1 if self._read_bytes - had > _LARGE_PAGE_BYTES else min(2 * asked, _LONGEST_PAGE)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint.

        Raises:
            LeaseLostError: The run that saves belongs to another worker now, or was deleted.
            TooLargeError: A value is larger than HOLDFAST_LARGEST_MB.
        """
        config = _with_text_ids(config)
        values = {
            name: value if value is None or (_fits_json(value) and not self.waits_for_loop) else _Apart(value)
            for name, value in checkpoint["channel_values"].items()
        }
        saved = cast("Checkpoint", {**checkpoint, "id": str(checkpoint["id"]), "channel_values": values})
        identity: dict[str, Any] = {
            name: config["configurable"][name]
            for name in ("thread_id", "checkpoint_ns", "checkpoint_id")
            if name in config["configurable"]
        }
        return await super().aput(
            {"configurable": {"checkpoint_ns": "", **identity}},
            saved,
            cast("CheckpointMetadata", await seal_metadata(_as_json(_whole_metadata(config, metadata)))),
            new_versions,
        )

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save what a task has written onto a checkpoint.

        Raises:
            LeaseLostError: The run that saves belongs to another worker now, or was deleted.
            TooLargeError: A value is larger than HOLDFAST_LARGEST_MB.
        """
        configurable = _with_text_ids(config)["configurable"]
        dump = functools.partial(
            self._dump_writes,
            configurable["thread_id"],
            configurable.get("checkpoint_ns", ""),
            configurable["checkpoint_id"],
            task_id,
            task_path,
            writes,
        )
        # Another thread would not make it faster, it is all Python; but the handlers of encryption need one.
        rows = await asyncio.to_thread(dump) if self.waits_for_loop else dump()
        run_id = (config.get("metadata") or {}).get("run_id")
        writer = self._writer()
        writer.batch().add_writes(
            rows,
            None if run_id is None else str(run_id),
            replace=all(channel in WRITES_IDX_MAP for channel, _ in writes),
        )
        await writer.save()

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete all that a thread has saved."""
        await checkpoint_rows.delete_thread_checkpoints(Handle(), [thread_id])

    async def adelete_for_runs(self, run_ids: Iterable[str]) -> None:
        """Take the threads of these runs back to before them; the runs' own rows must still exist."""
        wanted = [str(run_id) for run_id in run_ids]
        found = await checkpoint_rows.runs_by_thread(Handle(), wanted)
        for thread_id, runs in found.items():
            await checkpoint_rows.delete_run_checkpoints(Handle(), thread_id, runs)
        if missing := set(wanted) - {run for runs in found.values() for run in runs}:
            await logger.awarning("Checkpoints stay, their runs are gone", run_ids=sorted(missing))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all that a thread has saved to a thread that has nothing yet."""
        await checkpoint_rows.copy_checkpoints(Handle(), source_thread_id, target_thread_id)

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        self._read_bytes += sum(len(row[2] or b"") for row in value["channel_values"] or ())
        self._read_bytes += sum(len(row[3] or b"") for row in value["pending_writes"] or ())
        if self._for_answer:
            check_answer(self._read_bytes)
        channel_values = await open_rows(value["channel_values"], 1)
        pending_writes = await open_rows(value["pending_writes"], 2)
        opened = {**value, "channel_values": channel_values, "pending_writes": pending_writes}
        return await super()._load_checkpoint_tuple(opened)

    def _dump_blobs(
        self, thread_id: str, checkpoint_ns: str, values: dict[str, Any], versions: ChannelVersions
    ) -> list[tuple[str, str, str, str, str, bytes | None]]:
        plain = {name: value.value if isinstance(value, _Apart) else value for name, value in values.items()}
        return super()._dump_blobs(thread_id, checkpoint_ns, plain, versions)

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        # The library asks for a pipeline where it writes, which is in `aput`.
        if not pipeline:
            async with super()._cursor() as cursor:
                yield cursor
            return
        writer = self._writer()
        yield cast("AsyncCursor[DictRow]", _Recorder(writer))
        await writer.save()

    def _finds_nothing(self, config: RunnableConfig) -> bool:
        """Whether this is the first look of a thread's first run."""
        from langgraph_runtime_holdfast.ops.lease import current_lease

        lease = current_lease()
        return (
            lease is not None
            and lease.on_new_thread
            and str(config["configurable"]["thread_id"]) == str(lease.thread_id)
            and not lease.writer().has_begun
        )

    def _writer(self) -> CheckpointWriter:
        from langgraph_runtime_holdfast.ops.lease import current_lease

        # With a lease, what is written is either seen by a deletion of the run or refused after it.
        if self._own_writer is None and (lease := current_lease()) is not None:
            return lease.writer()
        if self._own_writer is None:
            self._own_writer = CheckpointWriter()
        return self._own_writer


class _Recorder:
    """Takes the statements of the library's `aput` for the writer."""

    def __init__(self, writer: CheckpointWriter) -> None:
        self._writer = writer

    async def executemany(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if statement != Saver.UPSERT_CHECKPOINT_BLOBS_SQL:
            raise _unknown(statement)
        for row in rows:
            self._writer.batch().add_blob(*row)

    async def execute(self, statement: str, row: tuple[Any, ...]) -> None:
        if statement != Saver.UPSERT_CHECKPOINTS_SQL:
            raise _unknown(statement)
        thread_id, namespace, checkpoint_id, parent_id, checkpoint, metadata = row
        self._writer.batch().add_checkpoint(
            thread_id, namespace, checkpoint_id, parent_id, checkpoint.obj, metadata.obj
        )


def _unknown(statement: str) -> EngineError:
    return EngineError(f"This langgraph-checkpoint-postgres saves in a way of its own: {statement}")


def Checkpointer(  # noqa: N802 - the name that the API calls
    conn: Executor | None = None,
    *,
    unpack_hook: UnpackHook | None = None,
    use_direct_connection: bool = False,
) -> Saver:
    """Make a saver for one run or request.

    Args:
        conn: Ignored; a saver takes connections from the loop's pool, and holds none in between.
        unpack_hook: Reads saved objects of the application as something else, such as JSON, for an answer of
            the API, which has a largest size.
        use_direct_connection: Ignored.
    """
    if unpack_hook is None:
        return Saver(_serializer())
    return Saver(_hooked_serializer(unpack_hook), for_answer=True)


async def thread_storage(conn: Executor, thread_id: str) -> dict[str, Any]:
    """Count the rows and bytes of a thread's checkpoints, by table and by channel."""
    return await checkpoint_rows.storage_report(conn, thread_id)


@functools.cache
def _serializer() -> SerializerProtocol:
    from langgraph_api.serde import Serializer

    return cast("SerializerProtocol", Serializer())


def _hooked_serializer(unpack_hook: UnpackHook) -> SerializerProtocol:
    import ormsgpack
    from langgraph.checkpoint.serde.jsonplus import EXT_DELTA_SNAPSHOT
    from langgraph.checkpoint.serde.types import _DeltaSnapshot
    from langgraph_api.serde import Serializer

    def unpack(code: int, data: bytes) -> Any:
        # A snapshot of a delta channel is the library's own object, which its saver needs as such.
        if code == EXT_DELTA_SNAPSHOT:
            return _DeltaSnapshot(ormsgpack.unpackb(data, ext_hook=unpack, option=ormsgpack.OPT_NON_STR_KEYS))
        return unpack_hook(code, data)

    return cast("SerializerProtocol", Serializer(__unpack_ext_hook__=unpack))


def _with_text_ids(config: RunnableConfig) -> RunnableConfig:
    """Return the config with ids as text, as the tables have them; the API passes UUIDs as well."""
    configurable = dict(config["configurable"])
    for name in ("thread_id", "checkpoint_id", "checkpoint_ns"):
        value = configurable.get(name)
        if isinstance(value, UUID):
            configurable[name] = str(value)
        elif isinstance(value, str) and "\x00" in value:
            raise HTTPException(
                status_code=422, detail=f"Invalid {name}: it must not contain a NUL character"
            )
    return {**config, "configurable": configurable}


def _whole_metadata(config: RunnableConfig, metadata: CheckpointMetadata) -> dict[str, Any]:
    configurable = {
        name: value
        for name, value in config["configurable"].items()
        if not name.startswith("__") and name not in _IDENTITY_KEYS
    }
    whole = {**configurable, **config.get("metadata", {}), **metadata}
    return {name: value for name, value in whole.items() if name not in _REQUEST_KEYS}


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    from langgraph_runtime_holdfast.ops.statement import json_text

    plain: dict[str, Any] = orjson.loads(json_text(value))
    return plain


def _fits_json(value: Any) -> bool:
    """Whether a value comes back from jsonb as it was; what is no simple value goes to the blobs anyway.

    Long text does not fit either: inline it would be stored anew with every checkpoint.
    """
    if isinstance(value, str):
        return type(value) is str and len(value) <= _LONGEST_INLINE and value.isprintable()
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return type(value) is int and abs(value) <= _LARGEST_INLINE
    if isinstance(value, float):
        return type(value) is float and math.isfinite(value) and not value.is_integer()
    return True


async def _decrypted(found: CheckpointTuple) -> CheckpointTuple:
    return found._replace(metadata=await open_metadata(found.metadata))


__all__ = ["Checkpointer", "Saver", "thread_storage"]
