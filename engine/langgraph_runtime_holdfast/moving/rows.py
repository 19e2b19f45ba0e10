"""The checkpointer's rows, from one database into another as they are.

They are read and written a few megabytes at a time, however much a thread has. Rows that are there stay; the
fingerprint of the whole tells afterwards whether they are the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from langgraph_runtime_holdfast.database import Transaction

TABLES: Final[tuple[str, ...]] = ("checkpoint_blobs", "checkpoint_writes", "checkpoints")
WIDTHS: Final = {"checkpoint_blobs": 5, "checkpoint_writes": 8, "checkpoints": 6}
"""Columns of a row as `read_rows` gives it."""
_MOST_BYTES: Final = 4_000_000
_MOST_ROWS: Final = 500
_MUCH_SECONDS: Final = 300.0

_SELECT: Final[dict[str, LiteralString]] = {
    "checkpoint_blobs": """
        SELECT checkpoint_ns, channel, version, type, blob FROM checkpoint_blobs WHERE thread_id = %s
    """,
    "checkpoint_writes": """
        SELECT checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob
        FROM checkpoint_writes WHERE thread_id = %s
    """,
    "checkpoints": """
        SELECT checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint::text, metadata::text
        FROM checkpoints WHERE thread_id = %s
    """,
}
_OLD_WRITES: Final[LiteralString] = """
SELECT checkpoint_ns, checkpoint_id, task_id, '' AS task_path, idx, channel, type, blob
FROM checkpoint_writes WHERE thread_id = %s
"""
"""Of a library before version 2.0.13, which had no paths."""
_INSERT: Final[dict[str, LiteralString]] = {
    "checkpoint_blobs": """
        INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
        VALUES (%s, %s, %s, %s, %s, %b) ON CONFLICT DO NOTHING
    """,
    "checkpoint_writes": """
        INSERT INTO checkpoint_writes
            (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %b) ON CONFLICT DO NOTHING
    """,
    "checkpoints": """
        INSERT INTO checkpoints
            (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
        SELECT id, ns, checkpoint_id, parent_id, type, checkpoint,
               CASE WHEN metadata ? 'thread_id' THEN metadata || jsonb_build_object('thread_id', id)
                    ELSE metadata END
        FROM (VALUES (%s::text, %s::text, %s::text, %s::text, %s::text, %s::jsonb, %s::jsonb))
            AS row (id, ns, checkpoint_id, parent_id, type, checkpoint, metadata)
        ON CONFLICT DO NOTHING
    """,
}
# The same on every Postgres, in whatever order the rows come, and whatever the thread's id is.
_DIGEST: Final = "('x' || left(md5({text}), 15))::bit(60)::bigint::numeric"
_FINGERPRINT: Final = """
SELECT concat_ws('-', checkpoints.*, blobs.*, writes.*) AS fingerprint
FROM (SELECT count(*), coalesce(sum({checkpoint}), 0) FROM checkpoints
      WHERE thread_id = %(id)s) AS checkpoints,
     (SELECT count(*), coalesce(sum({blob}), 0) FROM checkpoint_blobs WHERE thread_id = %(id)s) AS blobs,
     (SELECT count(*), coalesce(sum({write}), 0) FROM checkpoint_writes WHERE thread_id = %(id)s) AS writes
"""


def _digest(*columns: str) -> str:
    text = " || '/' || ".join(f"coalesce({column}, '')" for column in columns)
    return _DIGEST.format(text=text)


FINGERPRINT: Final = _FINGERPRINT.format(
    checkpoint=_digest(
        "checkpoint_ns",
        "checkpoint_id",
        "parent_checkpoint_id",
        "checkpoint::text",
        "(metadata - 'thread_id')::text",
    ),
    blob=_digest("checkpoint_ns", "channel", "version", "type", "md5(blob)"),
    write=_digest("checkpoint_ns", "checkpoint_id", "task_id", "idx::text", "channel", "type", "md5(blob)"),
)
"""Of all that a thread has saved."""


async def read_rows(
    connection: AsyncConnection[Any], table: str, thread_id: str, *, has_paths: bool
) -> AsyncIterator[tuple[Any, ...]]:
    """Read a thread's rows of a table, without its id, one after the other."""
    statement = _SELECT[table] if has_paths or table != "checkpoint_writes" else _OLD_WRITES
    async with connection.cursor(row_factory=tuple_row) as cursor:
        async for row in cursor.stream(statement, [thread_id], binary=True):
            yield row


async def write_rows(
    tx: Transaction, table: str, thread_id: UUID, rows: AsyncIterator[tuple[Any, ...]]
) -> None:
    """Write rows of a table as `read_rows` gives them to a thread; those that are there stay."""
    batch: list[tuple[Any, ...]] = []
    size = 0
    async for row in rows:
        batch.append((str(thread_id), *row))
        size += sum(len(value) for value in row if isinstance(value, bytes | str))
        if size > _MOST_BYTES or len(batch) >= _MOST_ROWS:
            await _insert(tx, table, batch, size)
            batch, size = [], 0
    if batch:
        await _insert(tx, table, batch, size)


async def _insert(tx: Transaction, table: str, batch: list[tuple[Any, ...]], size: int) -> None:
    tx.connection.payload_bytes += size
    async with tx.connection.cursor() as cursor:
        await cursor.executemany(_INSERT[table], batch)


async def fingerprint(tx: Transaction, thread_id: UUID) -> str:
    """What `FINGERPRINT` says of a thread here."""
    row = await tx.fetch_one(FINGERPRINT, {"id": str(thread_id)}, extra_seconds=_MUCH_SECONDS)
    assert row is not None
    return str(row["fingerprint"])
