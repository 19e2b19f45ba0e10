"""The store: long-term memory of graphs, with TTL and semantic search, one for each event loop.

The library's store puts operations in a queue and does one batch at a time, in which one bad operation fails
the others of the same moment, and a slow embedding holds up all. Here each operation runs by itself, over
the loop's pool.

A run gets a store of its own, which knows the run's lease: what it writes is written in a transaction that
asks for the lease first, so a worker that lost its run changes no memory any more. With `encryption` in
langgraph.json values are sealed here, whoever writes them.
"""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
import psycopg
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchOp,
    TTLConfig,
    tokenize_path,
)
from langgraph.store.postgres.aio import AsyncPostgresStore
from psycopg import AsyncCursor
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast import pause
from langgraph_runtime_holdfast.checkpoint_writer import LEASE_LOST
from langgraph_runtime_holdfast.connection import Connection, size_of
from langgraph_runtime_holdfast.database import connect, pool
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.limits import check_size
from langgraph_runtime_holdfast.store_filter import Compiled, compile_filter

if TYPE_CHECKING:
    from langgraph_runtime_holdfast.ops.lease import Lease

_LONGEST_NAME_BYTES: Final = 2000
"""Of namespace and key together; an index row of Postgres holds little more."""
_LONGEST_TTL_MINUTES: Final = 100 * 366 * 24 * 60
_MOST_DIMENSIONS: Final = {"vector": 2000, "halfvec": 4000}
"""That pgvector can index."""
_WHOLE_FILTER: Final = "$filter"
_SEARCH_ON: Final = """
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true)
WHERE '[1]'::vector IS NOT NULL AND current_setting('hnsw.iterative_scan', true) IS NOT NULL
"""
"""Without it (pgvector 0.8 brought it) an index scan ends after 40 vectors, whatever limit and filter say.

The vector makes the session load the extension, which is what defines the setting.
"""
_FORGET_VECTORS: Final = """
DELETE FROM store_vectors WHERE (prefix, key) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""

_REQUIRE_LEASE: Final = "SELECT require_lease_v2(held_run => %s, held_token => %s)"
_SEALED: Final = "__encryption_context__"
"""The key by which the server knows an encrypted object."""

_stores: dict[asyncio.AbstractEventLoop, LoopStore] = {}
_config: dict[str, Any] | None = None


class LoopStore(AsyncPostgresStore):
    """A store over the loop's pool."""

    aget = BaseStore.aget
    asearch = BaseStore.asearch
    aput = BaseStore.aput
    adelete = BaseStore.adelete
    alist_namespaces = BaseStore.alist_namespaces

    def __init__(self) -> None:
        """Use this loop's pool, and `store` of langgraph.json."""
        self._lease: Lease | None = None
        super().__init__(cast("Any", pool()), index=cast("Any", index_config()), ttl=_ttl_config())

    def of(self, lease: Lease) -> LoopStore:
        """Give the same store to a run: its writes need the lease, whatever thread or task they come from."""
        own = copy.copy(self)
        own._lease = lease
        own._task = None
        return own

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Run operations together.

        Raises:
            HTTPException: 422, a value that the store cannot hold or look for; 413, one that is larger than
                HOLDFAST_LARGEST_MB; nothing was done then.
            LeaseLostError: The run that asks is another worker's now, or was deleted; nothing was done.
        """
        from langgraph_runtime_holdfast.ops.lease import LeaseLostError

        checked = [_checked(op) for op in ops]
        try:
            results = await super().abatch([await _opened_put(op) for op in checked])
        except psycopg.DatabaseError as error:
            if error.sqlstate != LEASE_LOST or self._lease is None:
                raise
            self._lease.lose()
            raise LeaseLostError(
                "The run is another worker's now, or was deleted; the store takes nothing more from it."
            ) from None
        await _open_items(results)
        return results

    async def sweep_ttl(self) -> int:
        """Delete items whose time is up, unless the deployment is paused; returns how many."""
        async with connect() as handle:
            if await pause.is_on(handle):
                return 0
        return await super().sweep_ttl()

    async def _execute_batch(
        self, grouped_ops: dict[Any, Any], results: list[Result], conn: Any = None
    ) -> None:
        reads = {kind: ops for kind, ops in grouped_ops.items() if kind is not PutOp}
        if reads:
            await super()._execute_batch(reads, results, conn)
        if PutOp not in grouped_ops:
            return
        # An embedding takes its time: it is there before there is a connection, and a lock on the run.
        recorder = _Recorder()
        await self._batch_put_ops(grouped_ops[PutOp], cast("AsyncCursor[DictRow]", recorder))
        statements = [(query, await _sealed(parameters)) for query, parameters in recorder.statements]
        async with self._cursor(pipeline=True) as cursor, self._late(cursor) as late:
            for query, parameters in statements:
                await late.execute(query, parameters)

    async def _batch_get_ops(self, get_ops: Any, results: list[Result], cur: AsyncCursor[DictRow]) -> None:
        # A read moves the date on which an item expires.
        async with self._late(cur) as late:
            await super()._batch_get_ops(get_ops, results, late)

    async def _batch_search_ops(
        self, search_ops: Any, results: list[Result], cur: AsyncCursor[DictRow]
    ) -> None:
        if not self.index_config:
            async with self._late(cur) as late:
                await super()._batch_search_ops(search_ops, results, late)
            return
        # A setting of the session would be lost, or somebody else's, behind a pooler.
        async with AsyncExitStack() as transaction, self._late(cur, transaction) as late:
            await super()._batch_search_ops(search_ops, results, late)

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        async with super()._cursor(pipeline=pipeline) as cursor:
            # Of a pipeline that fails, psycopg takes statements for prepared that the server has passed over;
            # whoever has this connection next would ask for them.
            connection = cursor.connection
            before, connection.prepare_threshold = connection.prepare_threshold, None
            try:
                yield cursor
            finally:
                connection.prepare_threshold = before

    @asynccontextmanager
    async def _late(
        self, cursor: AsyncCursor[DictRow], transaction: AsyncExitStack | None = None
    ) -> AsyncIterator[AsyncCursor[DictRow]]:
        """Give a cursor whose first statement comes together with what has to be before it.

        What a pipeline sends at once is one transaction; a search has one of its own, for its setting.
        """
        lease = self._lease
        first: list[tuple[str, Sequence[Any]]] = []
        # What a run has left running when it ended may still remember something.
        if lease is not None and not lease.has_ended:
            first.append((_REQUIRE_LEASE, [lease.run_id, lease.token]))
        if transaction is not None:
            first.append((_SEARCH_ON, []))
        yield cast("AsyncCursor[DictRow]", _LateCursor(cursor, first, transaction))

    def _prepare_batch_PUT_queries(self, put_ops: Any) -> Any:  # noqa: N802 - the library's name
        queries, embedding_request = super()._prepare_batch_PUT_queries(put_ops)
        written = [op for _, op in put_ops if op.value is not None]
        if self.index_config and written:
            # The library leaves the vectors of texts that the value no longer has, and finds it by them.
            names = [".".join(op.namespace) for op in written], [op.key for op in written]
            queries.insert(0, (_FORGET_VECTORS, names))
        return queries, embedding_request

    def _get_filter_condition(self, key: str, op: str, value: Any) -> Compiled:
        return compile_filter(value)


class _Recorder:
    """Takes the statements of the library's puts."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, Sequence[Any]]] = []

    async def execute(self, query: str, parameters: Sequence[Any]) -> None:
        self.statements.append((query, parameters))


class _LateCursor:
    """A cursor that asks for the lease with its first statement, and not before a text is embedded.

    What it sends adds to the time that the statement may take.
    """

    def __init__(
        self,
        cursor: AsyncCursor[DictRow],
        first: Sequence[tuple[str, Sequence[Any]]],
        transaction: AsyncExitStack | None,
    ) -> None:
        self._cursor = cursor
        self._first = first
        self._transaction = transaction
        self.fetchall = cursor.fetchall

    async def execute(self, query: str, parameters: Sequence[Any]) -> None:
        first, self._first = self._first, ()
        if first and self._transaction is not None:
            await self._transaction.enter_async_context(self._cursor.connection.transaction())
        cast("Connection", self._cursor.connection).payload_bytes += sum(map(_size_of, parameters))
        for each in (*first, (query, parameters)):
            await self._cursor.execute(*each)


def _size_of(parameter: Any) -> int:
    # The library hands over what psycopg makes into JSON as it sends it.
    return len(orjson.dumps(parameter.obj)) if isinstance(parameter, Jsonb) else size_of(parameter)


def Store(*args: Any, **kwargs: Any) -> LoopStore:  # noqa: N802 - the name that the API calls
    """This loop's store; a run's own, where one is worked on."""
    from langgraph_runtime_holdfast.ops.lease import current_lease

    found, lease = _of_loop(), current_lease()
    return found if lease is None else found.of(lease)


def _of_loop() -> LoopStore:
    loop = asyncio.get_running_loop()
    found = _stores.get(loop)
    # A pool that was closed and opened again is another one.
    if found is None or found.conn is not pool():
        for ended in [each for each in list(_stores) if each.is_closed()]:
            _stores.pop(ended, None)
        found = _stores[loop] = LoopStore()
    return found


def set_store_config(config: dict[str, Any]) -> None:
    """Take this instead of `store` of langgraph.json, for stores made from now on."""
    global _config
    _config = config
    index_config.cache_clear()
    _stores.clear()


@functools.cache
def index_config() -> dict[str, Any] | None:
    """Return `store.index` of langgraph.json with its embedding loaded; None without one.

    Raises:
        EngineError: It is wrong, or the embedding cannot be loaded.
    """
    from langgraph_api.graph import resolve_embeddings

    index = _store_config().get("index")
    if not index:
        return None
    dimensions = index.get("dims")
    if not isinstance(dimensions, int) or not 1 <= dimensions <= _MOST_DIMENSIONS["halfvec"]:
        raise EngineError(
            f"store.index.dims in langgraph.json is {dimensions!r}; it must be a whole number from 1 to "
            f"{_MOST_DIMENSIONS['halfvec']}, which pgvector can index."
        )
    kind = "vector" if dimensions <= _MOST_DIMENSIONS["vector"] else "halfvec"
    if not index.get("embed"):
        raise EngineError("store.index in langgraph.json has no `embed`; name a model or a function there.")
    try:
        embedding = resolve_embeddings(index)
    except (AttributeError, ImportError, OSError, SyntaxError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EngineError(f"store.index.embed in langgraph.json cannot be loaded: {why}") from error
    return {"ann_index_config": {"kind": "hnsw", "vector_type": kind}, **index, "embed": embedding}


def _store_config() -> dict[str, Any]:
    from langgraph_api import config as api_config

    return _config if _config is not None else cast("dict[str, Any]", api_config.STORE_CONFIG or {})


def _ttl_config() -> TTLConfig:
    # Also without `store.ttl`, because any item may bring a TTL of its own.
    configured = {
        name: value for name, value in (_store_config().get("ttl") or {}).items() if value is not None
    }
    return cast("TTLConfig", {"refresh_on_read": True, **configured, "omit_expired": True})


def _checked(op: Op) -> Op:
    """Return the operation as the tables can hold it."""
    match op:
        case GetOp():
            _check_name(op.namespace, op.key)
        case PutOp():
            _check_name(op.namespace, op.key)
            return _checked_put(op)
        case SearchOp():
            _check_name(op.namespace_prefix)
            _check_page(op.limit, op.offset)
            if op.filter:
                return op._replace(filter={_WHOLE_FILTER: {_WHOLE_FILTER: op.filter}})
        case ListNamespacesOp():
            _check_page(op.limit, op.offset)
            if op.max_depth is not None and not 0 < op.max_depth < 2**31:
                raise _invalid("max_depth", "must be a positive 32-bit integer")
            for condition in op.match_conditions or ():
                _check_name(tuple(condition.path))
    return op


def _checked_put(op: PutOp) -> PutOp:
    from langgraph_runtime_holdfast.ops.statement import json_text

    if op.ttl is not None and not 0 <= op.ttl <= _LONGEST_TTL_MINUTES:
        raise _invalid("ttl", "must be minutes from 0 to a hundred years")
    if isinstance(op.index, list):
        for path in op.index:
            _check_path(path)
    if op.value is None:
        return op
    try:
        text = json_text(op.value)
    except TypeError as error:
        raise _invalid("value", f"must be JSON: {error}") from error
    check_size(f"The item {op.key!r}", len(text))
    return op._replace(value=orjson.loads(text))


async def _opened_put(op: Op) -> Op:
    """Return a put in plain text, as its texts are embedded; the API has sealed what it was given."""
    if isinstance(op, PutOp) and op.value is not None and _SEALED in op.value:
        return op._replace(value=await _opened(op.value))
    return op


async def _sealed(parameters: Sequence[Any]) -> Sequence[Any]:
    """Return a statement's parameters with its values sealed, if encryption is configured."""
    from langgraph_runtime_holdfast.ops.encryption import encrypted, using_custom_encryption

    if not using_custom_encryption():
        return parameters
    return [
        Jsonb((await encrypted({"value": each.obj}, "store", ["value"]))["value"])
        if isinstance(each, Jsonb)
        else each
        for each in parameters
    ]


async def _open_items(results: Sequence[Result]) -> None:
    for result in results:
        for item in result if isinstance(result, list) else [result]:
            if isinstance(item, Item) and _SEALED in item.value:
                item.value = await _opened(item.value)


async def _opened(value: Any) -> Any:
    from langgraph_runtime_holdfast.ops.encryption import decrypted

    return (await decrypted({"value": value}, "store", ["value"]))["value"]


def _check_name(namespace: tuple[str, ...], key: str = "") -> None:
    text = ".".join((*namespace, key))
    if "\x00" in text:
        raise _invalid("namespace or key", "must not contain a NUL character")
    if len(text.encode("utf-8", "replace")) > _LONGEST_NAME_BYTES:
        raise _invalid("namespace or key", f"must not be longer than {_LONGEST_NAME_BYTES} bytes together")


def _check_page(limit: int, offset: int) -> None:
    # The library doubles the limit for vectors and adds to it.
    if not (0 <= limit < 2**31 and 0 <= offset < 2**62):
        raise _invalid("limit or offset", "must not be negative or huge")


def _check_path(path: str) -> None:
    try:
        tokenize_path(path)
    except ValueError as error:
        raise _invalid("index", f"has a path that cannot be read: {error}") from error
    _check_name((path,))


def _invalid(what: str, why: str) -> HTTPException:
    return HTTPException(status_code=422, detail=f"Invalid {what}: {why}")


__all__ = ["Store", "index_config", "set_store_config"]
