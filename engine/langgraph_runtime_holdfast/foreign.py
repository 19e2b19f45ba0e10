"""Whose database it is: tables of somebody else are seen before anything is changed among them.

A database that holds nothing but LangGraph's own checkpoints and store is no stranger's: a project that moves
to this engine brings those along.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from psycopg import AsyncConnection
from psycopg.rows import DictRow

FOLDER: Final = Path(__file__).parent / "migrations"
CURE: Final = (
    "Give this engine a database of its own (CREATE DATABASE holdfast) and name that one in DATABASE_URI."
)
_CREATED: Final = re.compile(
    r"^CREATE (?:UNIQUE )?(?:TABLE|INDEX|SEQUENCE)(?: CONCURRENTLY)?(?: IF NOT EXISTS)? (\w+)", re.MULTILINE
)
# What tells one program's tables from another's; the first that is there in full has the name.
_OWNERS: Final = {
    "Aegra": frozenset({"assistant", "assistant_versions", "thread", "runs"}),
    "langhost": frozenset({"assistants", "assistant_versions", "threads", "runs", "crons"}),
    "the official LangGraph image": frozenset({"assistant", "thread", "run", "schema_migrations"}),
}
_FOUND: Final = """
SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relname = ANY(%s) ORDER BY c.relname
"""


def names_of_ours() -> set[str]:
    """What the migrations create, by name."""
    return {
        name for path in FOLDER.glob("*.sql") for name in _CREATED.findall(path.read_text(encoding="utf-8"))
    }


async def who_else(connection: AsyncConnection[DictRow]) -> str | None:
    """Say whose tables stand where this engine's would, and which; None if nobody's do.

    Nothing is changed. A database that this engine has migrated is its own, whatever else is in it.
    """
    if await _is_ours(connection):
        return None
    ours = names_of_ours()
    looked_for = sorted(ours.union(*_OWNERS.values()))
    cursor = await connection.execute(_FOUND, [looked_for])
    return _judge(ours, [row["name"] for row in await cursor.fetchall()])


def _judge(ours: set[str], found: Iterable[str]) -> str | None:
    there = set(found)
    for owner, tables in _OWNERS.items():
        if tables <= there:
            return f"it has the tables of {owner} ({', '.join(sorted(tables))})"
    if clash := sorted(there & ours):
        return f"it has tables of another program where this engine's would be ({', '.join(clash)})"
    return None


async def _is_ours(connection: AsyncConnection[DictRow]) -> bool:
    known = await connection.execute("SELECT to_regclass('holdfast_migration') IS NOT NULL AS known")
    if not (row := await known.fetchone()) or not row["known"]:
        return False
    # An empty one is all that a migration leaves which failed at somebody else's table.
    applied = await connection.execute("SELECT EXISTS (SELECT FROM holdfast_migration) AS applied")
    return bool((row := await applied.fetchone()) and row["applied"])
