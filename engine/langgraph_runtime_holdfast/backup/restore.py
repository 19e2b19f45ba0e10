"""Bringing a backup back: all of it, compared with what it was, and then safe to serve on.

Until everything is there the table of migrations is empty: a server that is started meanwhile, or after a
restore that broke off, takes the database for somebody else's and refuses it. Servers that run already begin
nothing, because it is paused from before its first row.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from langgraph_runtime_holdfast.backup import database
from langgraph_runtime_holdfast.backup.database import Connection, opened
from langgraph_runtime_holdfast.backup.manifest import (
    DUMP,
    Manifest,
    Migration,
    check_files,
    read_manifest,
)
from langgraph_runtime_holdfast.backup.programs import (
    LAST_WITHOUT_TRANSACTION_TIMEOUT,
    Program,
    address,
    find_program,
    run,
)
from langgraph_runtime_holdfast.backup.settle import RESTORING, pause_now, settle
from langgraph_runtime_holdfast.dsn import described
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.migrate import migrate
from langgraph_runtime_holdfast.schema_state import TABLES, newest_version
from langgraph_runtime_holdfast.settings import settings

# Their rows come last, or not at all.
_HELD_BACK: Final = ("holdfast_migration", "holdfast_schema", "holdfast_pause")
_DATA_OF: Final = re.compile(r" TABLE DATA (\S+) (\S+) ")
_SCHEMA: Final = re.compile(r" SCHEMA - (\S+) ")
_SECTIONS: Final = ("pre-data", "data", "post-data")
_NOT_RESTORED: Final = (
    "--no-owner",
    "--no-privileges",
    "--no-comments",
    "--no-publications",
    "--no-subscriptions",
)


@dataclass(frozen=True)
class Wishes:
    """What is to be done beside restoring, and in spite of what."""

    jobs: int = 1
    replaces: bool = False
    """Drop what is in the database first."""
    in_use: bool = False
    """Others may be connected."""
    paused: bool = False
    """Nothing begins until `holdfast resume`."""


@dataclass(frozen=True)
class Restored:
    """What a restore came to."""

    manifest: Manifest
    applied: list[str]
    """Migrations and functions that the backup did not have yet."""
    running: int
    """Runs that were running, and wait now."""
    is_paused: bool


def verify(folder: Path) -> Manifest:
    """Read all of a backup, without any database.

    Raises:
        EngineError: It is damaged, or not to be read by the programs that are here.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    # As SQL to nowhere: every compressed byte is read and understood.
    run(find_program("pg_restore", manifest.dumped_by), ["--file=/dev/null", str(folder / DUMP)], {})
    return manifest


def restore(folder: Path, dsn: str, wishes: Wishes) -> Restored:
    """Bring a backup into a database.

    Args:
        folder: The backup.
        dsn: The database, which is empty unless it is to be replaced.
        wishes: See there.

    Raises:
        EngineError: It cannot be restored. What was refused changed nothing; what broke off is said, and no
            server takes such a database.
    """
    manifest = read_manifest(folder)
    if manifest.minimum_version > newest_version():
        raise EngineError(
            f"The backup has schema version {manifest.version}, for engines that know "
            f"{manifest.minimum_version}; this one knows {newest_version()}. "
            "Restore it with the newer engine."
        )
    check_files(folder, manifest)
    with opened(dsn) as connection:
        program = _program(connection, manifest)
        _refuse_unless_free(connection, dsn, wishes)
        if wishes.replaces:
            database.empty(connection)
        try:
            running, applied = _bring_back(connection, dsn, folder, manifest, program, wishes)
        except (EngineError, psycopg.Error) as error:
            raise EngineError(
                f"The restore broke off, and what is in {described(dsn)} is not whole; no server takes it. "
                f"Begin again with --replace. {error}"
            ) from error
    return Restored(manifest, applied, running, wishes.paused or manifest.is_paused)


def _program(connection: Connection, manifest: Manifest) -> Program:
    major = connection.info.server_version // 10_000
    if major < manifest.server_major:
        raise EngineError(
            f"The backup is of Postgres {manifest.server_major}, and this is {major}. Restore it into "
            f"{manifest.server_major} or newer."
        )
    most = LAST_WITHOUT_TRANSACTION_TIMEOUT if major <= LAST_WITHOUT_TRANSACTION_TIMEOUT else None
    return find_program("pg_restore", manifest.dumped_by, most)


def _refuse_unless_free(connection: Connection, dsn: str, wishes: Wishes) -> None:
    if not wishes.replaces and (there := database.tables(connection)):
        raise EngineError(
            f"{described(dsn)} is not empty: it has {there[0]} and {len(there) - 1} more. Make a database "
            "for the backup (CREATE DATABASE …) and name it in DATABASE_URI; --replace drops what is in "
            "this one."
        )
    if not wishes.in_use and (others := database.others(connection)):
        raise EngineError(
            f"{described(dsn)} is in use: {others}. Stop the servers first; --in-use restores although "
            "others are connected, which see a half database meanwhile."
        )


def _bring_back(
    connection: Connection, dsn: str, folder: Path, manifest: Manifest, program: Program, wishes: Wishes
) -> tuple[int, list[str]]:
    where, environment = address(dsn)
    with tempfile.NamedTemporaryFile("w", suffix=".list", encoding="utf-8") as contents:
        listed = run(program, ["--list", str(folder / DUMP)], {})
        contents.write("\n".join(_wanted(connection, listed)))
        contents.flush()
        for section in _SECTIONS:
            options = [f"--jobs={wishes.jobs}", f"--section={section}", f"--use-list={contents.name}"]
            options += ["--exit-on-error", "--no-password", *_NOT_RESTORED, f"--dbname={where}"]
            options.append(str(folder / DUMP))
            run(program, options, environment)
            if section == "pre-data":
                pause_now(connection, RESTORING)
    _compare(connection, manifest)
    connection.execute("ANALYZE")
    with connection.transaction():
        # From here on servers know it for their own; it is paused.
        connection.execute(TABLES)
        for each in manifest.migrations:
            connection.execute(*_insert(each))
    applied = asyncio.run(migrate(dsn, timeout_seconds=settings().migration_timeout_seconds))
    paused = wishes.paused or manifest.is_paused
    reason = f"restored from the backup of {manifest.moment:%Y-%m-%d %H:%M:%S %Z}"
    return settle(connection, paused=paused, reason=reason), applied


def _wanted(connection: Connection, listed: str) -> Iterator[str]:
    """The lines of the archive's list that are to be restored."""
    there = {row["name"] for row in connection.execute("SELECT nspname AS name FROM pg_namespace")}
    for line in listed.splitlines():
        data, schema = _DATA_OF.search(line), _SCHEMA.search(line)
        if (data and data[2] in _HELD_BACK) or (schema and schema[1] in there):
            continue
        yield line


def _compare(connection: Connection, manifest: Manifest) -> None:
    found = database.count_rows(connection)
    for table, rows in manifest.tables.items():
        if table.rsplit(".", 1)[1] not in _HELD_BACK and found.get(table) != rows:
            raise EngineError(f"{table} has {found.get(table)} rows, and the backup had {rows}.")


def _insert(each: Migration) -> tuple[str, dict[str, Any]]:
    values = vars(each)
    columns = ["version", "name", "applied_at"]
    if each.minimum_version is not None:
        columns.append("minimum_version")
    names = ", ".join(columns)
    places = ", ".join(f"%({name})s" for name in columns)
    return f"INSERT INTO {each.table} ({names}) VALUES ({places})", values  # noqa: S608 - names of ours
