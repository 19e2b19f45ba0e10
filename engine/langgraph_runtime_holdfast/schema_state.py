"""How far a database is: what was applied to it, and whether this engine can serve on that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from langgraph_runtime_holdfast import schema_files
from langgraph_runtime_holdfast.dsn import CONNECTION_CURE, described
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.foreign import CURE, who_else

Connection = AsyncConnection[DictRow]

TABLES: Final = """
CREATE TABLE IF NOT EXISTS holdfast_migration (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS holdfast_schema (
    version         integer PRIMARY KEY,
    name            text NOT NULL,
    -- The oldest engine, by the newest migration that it knows, which can serve on the schema from here on.
    minimum_version integer NOT NULL,
    applied_at      timestamptz NOT NULL DEFAULT now()
);
"""
_THERE: Final = """
SELECT to_regclass('holdfast_migration') IS NOT NULL AS first,
       to_regclass('holdfast_schema') IS NOT NULL AS second,
       to_regclass('checkpoint_migrations') IS NOT NULL AS checkpoints,
       to_regclass('store_migrations') IS NOT NULL AS store,
       to_regclass('vector_migrations') IS NOT NULL AS vectors
"""
_FIRST: Final = "SELECT version, version AS minimum FROM holdfast_migration"
_SECOND: Final = "SELECT version, minimum_version AS minimum FROM holdfast_schema"
_FUNCTIONS: Final = """
SELECT proname AS name FROM pg_proc
WHERE pronamespace = quote_ident(current_schema())::regnamespace AND proname = ANY(%s)
"""


@dataclass(frozen=True)
class SchemaState:
    """What a database has of this engine's schema."""

    applied: frozenset[int]
    minimum_version: int
    """The oldest engine that can serve on it, by the newest migration that it knows."""
    missing: tuple[str, ...]
    """The migrations of this engine that it lacks, by name."""
    missing_functions: tuple[str, ...]

    @property
    def version(self) -> int:
        """The newest migration that was applied, be it of another engine; 0 for none."""
        return max(self.applied, default=0)

    @property
    def needs(self) -> int:
        """The newest migration that this engine knows."""
        return newest_version()

    @property
    def is_too_new(self) -> bool:
        """Whether this engine cannot serve on it any more."""
        return self.minimum_version > self.needs

    @property
    def is_complete(self) -> bool:
        """Whether it has all that this engine needs of its own."""
        return not self.missing and not self.missing_functions

    def refuse_if_too_new(self) -> None:
        """Refuse a database that only newer engines can serve on.

        Raises:
            EngineError: It is one.
        """
        if self.is_too_new:
            raise EngineError(
                f"The database has schema version {self.version}, made by a newer engine, and asks for one "
                f"that knows version {self.minimum_version}; this one knows {self.needs}. Use the newer "
                "engine, or restore a backup from before its migration."
            )


def newest_version() -> int:
    """The newest migration that this engine knows."""
    return schema_files.migrations()[-1].version


async def read_state(connection: Connection) -> SchemaState:
    """Look at a database; nothing is changed in it."""
    there = await _row(connection, _THERE)
    rows: list[DictRow] = []
    if there["first"]:
        rows += await _rows(connection, _FIRST)
    if there["second"]:
        rows += await _rows(connection, _SECOND)
    applied = frozenset(row["version"] for row in rows)
    wanted = list(schema_files.functions())
    made = {row["name"] for row in await _rows(connection, _FUNCTIONS, [wanted])}
    return SchemaState(
        applied=applied,
        minimum_version=max((row["minimum"] for row in rows), default=0),
        missing=tuple(each.name for each in schema_files.migrations() if each.version not in applied),
        missing_functions=tuple(name for name in wanted if name not in made),
    )


async def require_schema(dsn: str, *, wants_vectors: bool) -> None:
    """Refuse to serve on a database that is not migrated; for who leaves migrations to somebody else.

    Raises:
        EngineError: It cannot be reached, is too new, is somebody else's, or lacks something; names it.
    """
    try:
        connection = await AsyncConnection.connect(
            dsn, autocommit=True, row_factory=dict_row, prepare_threshold=None
        )
    except psycopg.OperationalError as error:
        raise EngineError(
            f"Postgres at {described(dsn)} cannot be used: {error}. {CONNECTION_CURE}"
        ) from error
    async with connection:
        state = await read_state(connection)
        state.refuse_if_too_new()
        if owner := await who_else(connection):
            raise EngineError(f"The database {connection.info.dbname} is not this engine's: {owner}. {CURE}")
        lacks = [*state.missing, *state.missing_functions]
        if not lacks:
            lacks = await _missing_of_libraries(connection, wants_vectors=wants_vectors)
        if lacks:
            has = f"has schema version {state.version}" if state.applied else "has no schema"
            raise EngineError(
                f"The database at {described(dsn)} {has} and lacks {_listed(lacks)}, and this server was "
                "told not to migrate it. Run `holdfast migrate` of this version first, or start without "
                "--no-migrate."
            )


async def _missing_of_libraries(connection: Connection, *, wants_vectors: bool) -> list[str]:
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from langgraph.store.postgres.aio import AsyncPostgresStore

    there = await _row(connection, _THERE)
    wanted = [
        ("checkpoints", "checkpoint_migrations", len(AsyncPostgresSaver.MIGRATIONS)),
        ("store", "store_migrations", len(AsyncPostgresStore.MIGRATIONS)),
    ]
    if wants_vectors:
        wanted.append(("vectors", "vector_migrations", len(AsyncPostgresStore.VECTOR_MIGRATIONS)))
    lacks = []
    for what, table, count in wanted:
        query = f"SELECT max(v) AS last FROM {table}"  # noqa: S608 - constants
        last = (await _row(connection, query))["last"] if there[what] else None
        if last is None or last < count - 1:
            lacks.append(f"migrations of the {what}")
    return lacks


def _listed(names: Iterable[str]) -> str:
    first, *rest = names
    return first if not rest else f"{first} and {len(rest)} more"


async def _row(connection: Connection, statement: str) -> DictRow:
    (row,) = await _rows(connection, statement)
    return row


async def _rows(connection: Connection, statement: str, parameters: Any = None) -> list[DictRow]:
    return await (await connection.execute(statement, parameters)).fetchall()
