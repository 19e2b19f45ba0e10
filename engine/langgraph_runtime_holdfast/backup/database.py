"""What backup and restore ask the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from langgraph_runtime_holdfast.dsn import CONNECTION_CURE, described
from langgraph_runtime_holdfast.errors import EngineError

Connection = psycopg.Connection[DictRow]

# Of nobody's extension and not Postgres' own.
_OF_USERS: Final = """
n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
AND NOT EXISTS (
    SELECT FROM pg_depend AS d WHERE d.classid = '{catalog}'::regclass AND d.objid = o.oid AND d.deptype = 'e'
)
"""
_TABLES: Final = f"""
SELECT n.nspname AS schema, o.relname AS name
FROM pg_class AS o JOIN pg_namespace AS n ON n.oid = o.relnamespace
WHERE o.relkind = 'r' AND {_OF_USERS.format(catalog="pg_class")} ORDER BY 1, 2
"""  # noqa: S608 - constants
_RELATIONS: Final = f"""
SELECT n.nspname AS schema, o.relname AS name, o.relkind::text AS kind
FROM pg_class AS o JOIN pg_namespace AS n ON n.oid = o.relnamespace
WHERE o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {_OF_USERS.format(catalog="pg_class")}
ORDER BY o.relkind IN ('r', 'p') DESC
"""  # noqa: S608 - constants
_FUNCTIONS: Final = f"""
SELECT n.nspname AS schema, o.proname AS name, pg_get_function_identity_arguments(o.oid) AS arguments
FROM pg_proc AS o JOIN pg_namespace AS n ON n.oid = o.pronamespace
WHERE {_OF_USERS.format(catalog="pg_proc")}
"""  # noqa: S608 - constants
# Not those of tables, nor the arrays and multiranges that go with their types.
_TYPES: Final = f"""
SELECT n.nspname AS schema, o.typname AS name, o.typtype = 'd' AS is_domain
FROM pg_type AS o JOIN pg_namespace AS n ON n.oid = o.typnamespace
LEFT JOIN pg_class AS c ON c.oid = o.typrelid
WHERE (o.typtype IN ('d', 'e', 'r') OR (o.typtype = 'c' AND c.relkind = 'c'))
    AND {_OF_USERS.format(catalog="pg_type")}
"""  # noqa: S608 - constants
_OTHERS: Final = """
SELECT coalesce(nullif(application_name, ''), 'unnamed') AS name, count(*) AS sessions FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' GROUP BY 1
"""
_KINDS: Final = {
    "r": "TABLE", "p": "TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW", "S": "SEQUENCE", "f": "FOREIGN TABLE",
}  # fmt: skip


@contextmanager
def opened(dsn: str) -> Iterator[Connection]:
    """A connection to Postgres itself.

    Raises:
        EngineError: It cannot be had, or a pooler is in between.
    """
    try:
        with psycopg.connect(dsn, autocommit=True, row_factory=dict_row, prepare_threshold=None) as made:
            if one(made, "SELECT pg_backend_pid() AS pid")["pid"] != made.info.backend_pid:
                raise EngineError(
                    "A pooler is in between, which keeps no session: name Postgres' own address in "
                    "DATABASE_URI."
                )
            yield made
    except psycopg.OperationalError as error:
        raise EngineError(
            f"Postgres at {described(dsn)} cannot be used: {_one_line(error)}. {CONNECTION_CURE}"
        ) from error
    except psycopg.Error as error:
        raise EngineError(f"Postgres at {described(dsn)} refused: {_one_line(error)}.") from error


def one(connection: Connection, statement: Any, parameters: Any = None) -> DictRow:
    """The only row of a query."""
    row = connection.execute(statement, parameters).fetchone()
    assert row is not None
    return row


def exists(connection: Connection, table: str) -> bool:
    """Whether there is such a table, where the connection looks for it."""
    return bool(one(connection, "SELECT to_regclass(%s) IS NOT NULL AS known", [table])["known"])


def count_rows(connection: Connection) -> dict[str, int]:
    """The rows of every table, each counted."""
    found = connection.execute(_TABLES).fetchall()
    return {f"{row['schema']}.{row['name']}": _count(connection, row) for row in found}


def _count(connection: Connection, row: DictRow) -> int:
    query = sql.SQL("SELECT count(*) AS rows FROM {}").format(sql.Identifier(row["schema"], row["name"]))
    return int(one(connection, query)["rows"])


def tables(connection: Connection) -> list[str]:
    """What is in the database, by name."""
    return [f"{row['schema']}.{row['name']}" for row in connection.execute(_RELATIONS).fetchall()]


def others(connection: Connection) -> str:
    """Who else is connected, in words; empty if nobody is."""
    rows = connection.execute(_OTHERS).fetchall()
    return ", ".join(f"{row['sessions']} of {row['name']}" for row in rows)


def empty(connection: Connection) -> None:
    """Drop all tables, functions and types that are in the database, in one transaction."""
    with connection.transaction():
        for row in connection.execute(_RELATIONS).fetchall():
            dropped = sql.SQL("DROP {} IF EXISTS {} CASCADE").format(
                sql.SQL(_KINDS[row["kind"]]), sql.Identifier(row["schema"], row["name"])
            )
            connection.execute(dropped)
        # Before functions: those that make a range go with it, and not without.
        for row in connection.execute(_TYPES).fetchall():
            dropped = sql.SQL("DROP {} IF EXISTS {} CASCADE").format(
                sql.SQL("DOMAIN" if row["is_domain"] else "TYPE"), sql.Identifier(row["schema"], row["name"])
            )
            connection.execute(dropped)
        for row in connection.execute(_FUNCTIONS).fetchall():
            dropped = sql.SQL("DROP ROUTINE IF EXISTS {}({}) CASCADE").format(
                sql.Identifier(row["schema"], row["name"]), sql.SQL(row["arguments"])
            )
            connection.execute(dropped)


def _one_line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".")
