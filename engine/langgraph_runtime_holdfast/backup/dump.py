"""Making a backup: one snapshot, counted and dumped, and given its name when it is whole."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from datetime import UTC
from pathlib import Path
from typing import Any, Final

from langgraph_runtime_holdfast import __version__
from langgraph_runtime_holdfast.backup.database import Connection, count_rows, exists, one, opened
from langgraph_runtime_holdfast.backup.manifest import DUMP, FILE, Manifest, Migration, hashes
from langgraph_runtime_holdfast.backup.programs import address, failure, find_program
from langgraph_runtime_holdfast.backup.unfinished import unfinished
from langgraph_runtime_holdfast.errors import EngineError

_LOCK_WAIT: Final = "60s"
"""For a table that somebody changes; meanwhile the snapshot keeps rows from being vacuumed."""
_FIRST: Final = """
SELECT 'holdfast_migration' AS table, version, name, NULL::int AS minimum_version, applied_at::text
FROM holdfast_migration ORDER BY version
"""
_LATER: Final = """
SELECT 'holdfast_schema' AS table, version, name, minimum_version, applied_at::text
FROM holdfast_schema ORDER BY version
"""
_UNDELIVERED: Final = "SELECT count(*) AS n FROM outbox WHERE delivered_at IS NULL AND dead_at IS NULL"


def backup(dsn: str, into: Path, *, jobs: int) -> tuple[Path, Manifest]:
    """Back a database up, whole and of one moment, while servers work on it.

    Args:
        dsn: The database.
        into: A folder for backups; the backup is a folder in it, named by its recovery point.
        jobs: How many tables are read at once.

    Returns:
        Where it is, and what it says of itself.

    Raises:
        EngineError: It could not be made; nothing is left of it.
    """
    began = time.monotonic()
    with opened(dsn) as connection:
        if not exists(connection, "holdfast_migration"):
            raise EngineError("The database has no schema of this engine; there is nothing to back up.")
        # Before the snapshot is taken, so that what was acknowledged by then is in it.
        point = one(connection, "SELECT clock_timestamp() AS now")["now"].astimezone(UTC)
        final = into / f"holdfast-{point:%Y%m%dT%H%M%S}Z"
        try:
            with unfinished(final) as (made, held):
                said = _dump(connection, dsn, made, held, jobs)
                files = hashes(made)
                size = sum((made / DUMP / name).stat().st_size for name in files)
                manifest = Manifest(
                    recovery_point=point.isoformat(),
                    took_seconds=round(time.monotonic() - began, 1),
                    engine=__version__,
                    database=connection.info.dbname,
                    files=files,
                    size_bytes=size,
                    **said,
                )
                manifest.write(made)
                _keep(made, final)
        except OSError as error:
            raise EngineError(f"The backup cannot be written: {error}") from error
    return final, manifest


def _dump(connection: Connection, dsn: str, made: Path, held: int, jobs: int) -> dict[str, Any]:
    """Dump a snapshot and count its rows meanwhile; returns what the manifest says of it."""
    major = connection.info.server_version // 10_000
    program = find_program("pg_dump", major)
    where, environment = address(dsn)
    with connection.transaction(), tempfile.TemporaryFile("w+") as complaints:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.execute("SET LOCAL statement_timeout = 0")
        connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'")
        snapshot = one(connection, "SELECT pg_export_snapshot() AS id")["id"]
        command = [
            *(str(program.path), "--format=directory", f"--file={made / DUMP}", f"--jobs={jobs}"),
            *(f"--snapshot={snapshot}", f"--lock-wait-timeout={_LOCK_WAIT}", "--no-password"),
            f"--dbname={where}",
        ]
        dumping = subprocess.Popen(  # noqa: S603 - a program of Postgres, with our own options
            command,
            stdin=subprocess.DEVNULL,
            stdout=complaints,
            stderr=complaints,
            env=environment,
            pass_fds=[held],
        )
        try:
            said = _about(connection)
            code = dumping.wait()
        finally:
            if dumping.poll() is None:
                dumping.terminate()
                dumping.wait()
        if code:
            complaints.seek(0)
            raise EngineError(failure(program, code, complaints.read()))
    return {"server_major": major, "dumped_by": program.major, **said}


def _about(connection: Connection) -> dict[str, Any]:
    def has(table: str) -> bool:
        return exists(connection, table)

    rows = connection.execute(_FIRST).fetchall()
    rows += connection.execute(_LATER).fetchall() if has("holdfast_schema") else []
    counts = count_rows(connection)
    schema = one(connection, "SELECT current_schema() AS name")["name"]
    return {
        "schema": schema,
        "migrations": [Migration(**row) for row in rows],
        "is_paused": counts.get(f"{schema}.holdfast_pause", 0) > 0,
        "in_flight": counts.get(f"{schema}.run_inflight", 0),
        "undelivered": one(connection, _UNDELIVERED)["n"] if has("outbox") else 0,
        "tables": counts,
    }


def _keep(made: Path, final: Path) -> None:
    """Give it its name once all of it is on disk; pg_dump has seen to its own files."""
    for path in (made / FILE, made):
        _sync(path)
    made.rename(final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
