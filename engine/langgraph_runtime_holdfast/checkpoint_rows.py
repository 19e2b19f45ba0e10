"""Whole-thread work on the checkpointer's tables, in SQL: delete, roll back, copy, measure.

The tables are made by langgraph-checkpoint-postgres: `checkpoints` (with the versions of its channels),
`checkpoint_blobs` (a channel's value at a version, shared by checkpoints) and `checkpoint_writes` (what tasks
have written onto a checkpoint so far).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from langgraph_runtime_holdfast.database import Executor

ADDITIONS: Final = (
    # Who wrote, so that rolling a run back also takes what it wrote onto a checkpoint of an earlier run.
    # Asked first: even an ALTER TABLE that changes nothing waits for all who read, and the others behind it.
    """
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_attribute
                       WHERE attrelid = 'checkpoint_writes'::regclass AND attname = 'written_by_run') THEN
            ALTER TABLE checkpoint_writes ADD COLUMN written_by_run text;
        END IF;
    END $$
    """,
    # Large values are compressed in a third of the time, where the server was built with it.
    """
    DO $$
    DECLARE changed regclass;
    BEGIN
        IF EXISTS (
            SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)
        ) THEN
            FOR changed IN
                SELECT attrelid FROM pg_attribute WHERE attname = 'blob' AND attcompression <> 'l'
                AND attrelid = ANY (ARRAY['checkpoint_blobs', 'checkpoint_writes']::regclass[])
            LOOP
                EXECUTE format('ALTER TABLE %s ALTER COLUMN blob SET COMPRESSION lz4', changed);
            END LOOP;
        END IF;
    END $$
    """,
)
"""What the engine adds to the library's tables; run after the library's own migrations."""

_DELETE_THREADS: Final = """
WITH writes AS (DELETE FROM checkpoint_writes WHERE thread_id = ANY(%(threads)s)),
     blobs AS (DELETE FROM checkpoint_blobs WHERE thread_id = ANY(%(threads)s))
DELETE FROM checkpoints WHERE thread_id = ANY(%(threads)s)
"""
# As much of one table as goes quickly, and at least one row. A value's length is known without reading it.
_DELETE_PART: Final = """
WITH part AS (
    SELECT at, sum(size) OVER (ROWS UNBOUNDED PRECEDING) - size AS before
    FROM (
        SELECT ctid AS at, {size} AS size FROM {table}
        WHERE thread_id = ANY(%(threads)s) LIMIT %(rows)s
    ) AS found
)
DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT at FROM part WHERE before < %(bytes)s))
  AND thread_id = ANY(%(threads)s)
"""
# Those first that a thread's latest state can do without.
_PARTS: Final = tuple(
    _DELETE_PART.format(table=table, size=size)
    for table, size in (
        ("checkpoint_writes", "octet_length(blob)"),
        ("checkpoints", "pg_column_size(checkpoint) + pg_column_size(metadata)"),
        ("checkpoint_blobs", "coalesce(octet_length(blob), 0)"),
    )
)
_PART_ROWS: Final = 2_000
_PART_BYTES: Final = 100_000_000
# Looks at some rows of each only: more than these is much anyway.
_MUCH: Final = """
SELECT thread_id, (
    SELECT count(*) + coalesce(sum(octet_length(blob)), 0) / 10000 FROM (
        SELECT blob FROM checkpoint_blobs WHERE checkpoint_blobs.thread_id = thread.thread_id LIMIT 5000
    ) AS blobs
) + (
    SELECT count(*) + coalesce(sum(octet_length(blob)), 0) / 10000 FROM (
        SELECT blob FROM checkpoint_writes WHERE checkpoint_writes.thread_id = thread.thread_id LIMIT 5000
    ) AS writes
) AS weight
FROM unnest(%(threads)s::text[]) AS thread (thread_id)
"""
_MUCH_SECONDS: Final = 60.0
"""What a statement may take longer that has a whole thread to copy, or a run's part of it to delete."""
MOST_AT_ONCE: Final = 4_000
"""The weight (see `weights`) of what one transaction deletes within some seconds on a small machine."""
# One statement sees the tables as they were before it; `kept` therefore leaves out the runs' checkpoints.
_DELETE_RUNS: Final = """
WITH gone AS (
    DELETE FROM checkpoints WHERE thread_id = %(thread)s AND metadata ->> 'run_id' = ANY(%(runs)s)
    RETURNING checkpoint_ns, checkpoint_id, checkpoint -> 'channel_versions' AS versions
), writes AS (
    DELETE FROM checkpoint_writes
    WHERE thread_id = %(thread)s AND (
        written_by_run = ANY(%(runs)s)
        OR (checkpoint_ns, checkpoint_id) IN (SELECT checkpoint_ns, checkpoint_id FROM gone)
    )
), kept AS (
    SELECT DISTINCT checkpoint_ns, version.key AS channel, version.value AS version
    FROM checkpoints, jsonb_each_text(checkpoint -> 'channel_versions') AS version
    WHERE thread_id = %(thread)s AND coalesce(metadata ->> 'run_id', '') <> ALL(%(runs)s)
), freed AS (
    SELECT checkpoint_ns, version.key AS channel, version.value AS version
    FROM gone, jsonb_each_text(versions) AS version
    EXCEPT SELECT checkpoint_ns, channel, version FROM kept
)
DELETE FROM checkpoint_blobs AS blob USING freed
WHERE blob.thread_id = %(thread)s AND blob.checkpoint_ns = freed.checkpoint_ns
  AND blob.channel = freed.channel AND blob.version = freed.version
"""
_COPY: Final = """
WITH blobs AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT %(target)s, checkpoint_ns, channel, version, type, blob
    FROM checkpoint_blobs WHERE thread_id = %(source)s
), writes AS (
    INSERT INTO checkpoint_writes
        (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT %(target)s, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob
    FROM checkpoint_writes WHERE thread_id = %(source)s
)
INSERT INTO checkpoints
    (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
SELECT %(target)s, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint,
       CASE WHEN metadata ? 'thread_id' THEN metadata || jsonb_build_object('thread_id', %(target)s::text)
            ELSE metadata END
FROM checkpoints WHERE thread_id = %(source)s
"""
_THREAD_OF_RUNS: Final = (
    "SELECT thread_id, array_agg(run_id::text) AS runs FROM run WHERE run_id = ANY(%(runs)s)"
)
_SIZES: Final = """
SELECT 'checkpoints' AS what, NULL AS channel, count(*) AS count,
       coalesce(sum(pg_column_size(checkpoint) + pg_column_size(metadata)), 0)::bigint AS bytes
FROM checkpoints WHERE thread_id = %(thread)s
UNION ALL
SELECT 'pending_writes', NULL, count(*), coalesce(sum(octet_length(blob)), 0)::bigint
FROM checkpoint_writes WHERE thread_id = %(thread)s
UNION ALL
SELECT 'channel', channel, count(*), coalesce(sum(octet_length(blob)), 0)::bigint
FROM checkpoint_blobs WHERE thread_id = %(thread)s GROUP BY channel ORDER BY what, channel
"""


async def delete_thread_checkpoints(executor: Executor, thread_ids: Sequence[str | UUID]) -> None:
    """Delete all that these threads have saved; one statement."""
    await executor.execute(_DELETE_THREADS, {"threads": [str(thread_id) for thread_id in thread_ids]})


async def weights(executor: Executor, thread_ids: Sequence[str | UUID]) -> dict[UUID, int]:
    """What it costs to delete what these threads have saved: about a row, or 10 kB, for each unit."""
    rows = await executor.fetch(_MUCH, {"threads": [str(thread_id) for thread_id in thread_ids]})
    return {UUID(row["thread_id"]): int(row["weight"]) for row in rows}


async def thin_out(
    handle: Executor, thread_ids: Sequence[str | UUID], *, locked_by: Executor | None = None
) -> None:
    """Delete what these threads have saved, in parts, each for itself; what is added meanwhile may stay.

    For threads with more than one transaction should delete. What was done stays done when it is cut short.

    Args:
        handle: Where.
        thread_ids: Which threads.
        locked_by: A transaction that holds them; nothing more is deleted once it is gone.
    """
    for statement in _PARTS:
        parameters = {
            "threads": [str(thread_id) for thread_id in thread_ids],
            "rows": _PART_ROWS,
            "bytes": _PART_BYTES,
        }
        while await handle.execute(statement, parameters):
            if locked_by is not None:
                # Postgres ends a transaction that is silent for long, and its locks with it.
                await locked_by.execute("SELECT 1")


async def delete_run_checkpoints(
    executor: Executor, thread_id: str | UUID, run_ids: Sequence[str | UUID]
) -> None:
    """Take a thread back to before these runs; one statement.

    Their checkpoints go, with values that no other checkpoint uses, and so does what they wrote onto
    checkpoints of earlier runs, such as the answer to an interrupt. Checkpoints of other runs stay, also the
    later ones.
    """
    await executor.execute(
        _DELETE_RUNS,
        {"thread": str(thread_id), "runs": [str(run_id) for run_id in run_ids]},
        extra_seconds=_MUCH_SECONDS,
    )


async def runs_by_thread(executor: Executor, run_ids: Sequence[str | UUID]) -> dict[UUID, list[str]]:
    """Find the threads of runs that still exist, each with its runs."""
    rows = await executor.fetch(
        f"{_THREAD_OF_RUNS} GROUP BY thread_id", {"runs": [UUID(str(run_id)) for run_id in run_ids]}
    )
    return {row["thread_id"]: row["runs"] for row in rows}


async def copy_checkpoints(executor: Executor, source: str | UUID, target: str | UUID) -> None:
    """Copy all that a thread has saved to a thread that has nothing yet; one statement."""
    await executor.execute(_COPY, {"source": str(source), "target": str(target)}, extra_seconds=_MUCH_SECONDS)


async def storage_report(executor: Executor, thread_id: str | UUID) -> dict[str, Any]:
    """Count the rows and bytes of a thread's checkpoints, by table and by channel."""
    rows = await executor.fetch(_SIZES, {"thread": str(thread_id)})
    by_table = {row["what"]: {"count": row["count"], "bytes": row["bytes"]} for row in rows}
    by_channel = {
        row["channel"]: {"versions": row["count"], "bytes": row["bytes"]}
        for row in rows
        if row["what"] == "channel"
    }
    channel_bytes = sum(channel["bytes"] for channel in by_channel.values())
    checkpoints, writes = by_table["checkpoints"], by_table["pending_writes"]
    return {
        "total_bytes": checkpoints["bytes"] + channel_bytes + writes["bytes"],
        "checkpoints": checkpoints,
        "channel_values": {
            "count": sum(channel["versions"] for channel in by_channel.values()),
            "bytes": channel_bytes,
            "by_channel": by_channel,
        },
        "pending_writes": writes,
    }
