"""Runs one read-only SELECT and turns its rows into bounded JSON."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final

import duckdb

from graphs.kit.problems import InputProblem

MAX_ROWS: Final = 1_000
MAX_RESULT_COLUMNS: Final = 100
MAX_CELL_CHARACTERS: Final = 500
MAX_RESULT_CHARACTERS: Final = 1_000_000
BATCH_ROWS: Final = 100
LARGEST_INTEGER: Final = 2**63 - 1

_ONLY_SELECT: Final = (
    "Send one SELECT over the table `data`; files, settings and other statements are closed."
)


def is_sql(connection: duckdb.DuckDBPyConnection, text: str) -> bool:
    """Say whether a message is SQL rather than a sentence: it parses, and is more than bare words."""
    try:
        statements = connection.extract_statements(text)
    except duckdb.Error:
        return False
    words = text.lower().split()
    # "select the region" parses too, as a column with an alias.
    return bool(statements) and (
        words[0] not in {"select", "from", "with"} or "from" in words[1:] or ";" in text
    )


def check_select(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Return the statement if it is a single SELECT, judged by the database's own parser.

    Raises:
        InputProblem: It does not parse, or it is something else or several statements.
    """
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise _sql_problem(error) from error
    if len(statements) != 1:
        raise InputProblem(
            "sql_not_allowed", f"The SQL has {len(statements)} statements instead of one.", _ONLY_SELECT
        )
    statement = statements[0]
    if statement.type != duckdb.StatementType.SELECT:
        raise InputProblem(
            "sql_not_allowed", f"{statement.type.name} statements are not allowed.", _ONLY_SELECT
        )
    return str(statement.query).strip().rstrip(";")


def run_select(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    """Run a single SELECT over the closed connection.

    Returns:
        `sql`, `columns` (name, type, kind), `rows` (lists of JSON values) and `truncated`.

    Raises:
        InputProblem: The SQL is not one SELECT, is wrong, or reaches for files or settings.
    """
    query = check_select(connection, sql)
    try:
        # Its own line, so that a comment at the end of the query does not swallow the bracket.
        relation = connection.sql(f"FROM (\n{query}\n)")  # finds the types, and runs nothing
        columns = [
            {"name": name, "type": str(kind), "kind": column_kind(str(kind))}
            for name, kind in zip(relation.columns, relation.types, strict=True)
        ]
        if len(columns) > MAX_RESULT_COLUMNS:
            raise InputProblem(
                "sql_too_wide",
                f"The answer has {len(columns)} columns; {MAX_RESULT_COLUMNS} is the most.",
                "Name the columns that you need.",
            )
        rows, truncated = _fetch(connection.execute(_bounded(query, [column["type"] for column in columns])))
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except duckdb.Error as error:
        raise _sql_problem(error) from error
    return {"sql": query, "columns": columns, "rows": rows, "truncated": truncated}


def _bounded(query: str, types: list[str]) -> str:
    # Positions instead of names: two columns of an answer may have the same one.
    names = [f"c{place}" for place in range(len(types))]
    values = ", ".join(as_plain(name, kind) for name, kind in zip(names, types, strict=True))
    return f"SELECT {values} FROM (\n{query}\n) AS answer({', '.join(names)}) LIMIT {MAX_ROWS + 1}"  # noqa: S608


def as_plain(expression: str, type_name: str) -> str:
    """Write the SQL that turns a value into a number, a boolean or a text; dates become ISO 8601 texts."""
    kind = column_kind(type_name)
    if type_name == "TIMESTAMP WITH TIME ZONE":
        return f"replace(timezone('UTC', {expression})::VARCHAR, ' ', 'T') || 'Z'"
    if kind == "date":
        return f"replace({expression}::VARCHAR, ' ', 'T')"
    return expression if kind in {"number", "boolean"} else f"{expression}::VARCHAR"


def _fetch(answer: duckdb.DuckDBPyConnection) -> tuple[list[list[Any]], bool]:
    rows: list[list[Any]] = []
    size = 0
    while batch := answer.fetchmany(BATCH_ROWS):
        for values in batch:
            row = [json_value(value) for value in values]
            size += len(repr(row))
            if len(rows) == MAX_ROWS or size > MAX_RESULT_CHARACTERS:
                return rows, True
            rows.append(row)
    return rows, False


def _sql_problem(error: duckdb.Error) -> InputProblem:
    told = str(error).split("\n\n")[0].replace("\n", " ")[:400]
    if isinstance(error, duckdb.PermissionException) or "configuration has been locked" in told:
        # The database's own words would name folders of this machine.
        return InputProblem(
            "sql_not_allowed", "The SQL reaches for files, settings or secrets.", _ONLY_SELECT
        )
    return InputProblem("sql_invalid", f"The SQL cannot be run: {told}.", "Correct it and send again.")


def column_kind(type_name: str) -> str:
    """Sort a database type into number, text, date, boolean or other."""
    base = type_name.split("(")[0]
    if type_name.endswith("]") or base in {"STRUCT", "MAP", "UNION", "BLOB", "BIT"}:
        return "other"
    if base in {"DOUBLE", "FLOAT", "DECIMAL", "INTEGER", "UINTEGER"} or base.endswith("INT"):
        return "number"
    if base == "DATE" or base.startswith("TIMESTAMP"):
        return "date"
    return {"VARCHAR": "text", "ENUM": "text", "UUID": "text", "BOOLEAN": "boolean"}.get(base, "other")


def json_value(value: Any) -> Any:
    """Turn a database value into a bounded JSON value; what JSON cannot say (NaN, infinity) becomes None."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # Neither JSON encoders nor checkpoints carry integers above 64 bits.
        return value if abs(value) <= LARGEST_INTEGER else json_value(float(value))
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    text = str(value)
    return text if len(text) <= MAX_CELL_CHARACTERS else f"{text[:MAX_CELL_CHARACTERS]}…"
