"""Profiles the table and runs one read-only SELECT over it; what comes back is bounded JSON."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final

import duckdb
from duckdb.sqltypes import DuckDBPyType

from graphs.analytics.table import MAX_COLUMNS, ONLY_SELECT, open_table
from graphs.kit.problems import InputProblem

MAX_RESULT_ROWS: Final = 1_000
MAX_RESULT_CELLS: Final = 10_000
MAX_CELL_CHARACTERS: Final = 200


def profile_data(content: bytes) -> dict[str, Any]:
    """Profile a CSV or Parquet file: its number of `rows`, and kind, range and centre of its `columns`."""
    with open_table(content) as connection:
        table = connection.table("data")
        columns = zip(table.columns, table.types, strict=True)
        return {"rows": table.shape[0], "columns": [_profile(connection, *column) for column in columns]}


def _profile(connection: duckdb.DuckDBPyConnection, name: str, type_: DuckDBPyType) -> dict[str, Any]:
    column, kind = quoted(name), column_kind(type_)
    asked = {"empty": f"count(*) - count({column})", "distinct": f"count(DISTINCT {column})"}
    asked |= {"min": _plain(f"min({column})", kind), "max": _plain(f"max({column})", kind)}
    if kind == "text":
        asked["top"] = f"approx_top_k({column}::VARCHAR, 5)"
    if kind == "number":
        # As DOUBLE: the sum behind an average of huge integers would overflow.
        asked |= {"mean": f"avg({column}::DOUBLE)", "median": f"median({column}::DOUBLE)"}
    row = connection.execute(f"SELECT {', '.join(asked.values())} FROM data").fetchone() or ()  # noqa: S608
    figures = {key: _json_value(value) for key, value in zip(asked, row, strict=True)}
    return {"name": name, "kind": kind, **figures}


def query_data(content: bytes, sql: str) -> dict[str, Any]:
    """Answer one SELECT over a CSV or Parquet file (columns, rows, truncated), or raise InputProblem."""
    with open_table(content) as connection:
        return _select(connection, sql)


def _select(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    statements = connection.extract_statements(sql)
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise InputProblem("sql_refused", "The SQL is not a single SELECT.", ONLY_SELECT)
    # Its own line, so that a comment at the end of the query does not swallow the bracket.
    query = f"(\n{statements[0].query.strip().rstrip(';')}\n)"
    answer = connection.sql(f"FROM {query}")  # finds the names and types, and runs nothing
    names, kinds = answer.columns, [column_kind(type_) for type_ in answer.types]
    if len(names) > MAX_COLUMNS:
        raise InputProblem("sql_refused", f"The answer has more than {MAX_COLUMNS} columns.", ONLY_SELECT)
    # Positions instead of names: two columns of an answer may have the same one.
    places = [f"c{place}" for place in range(len(names))]
    values = ", ".join(_plain(place, kind) for place, kind in zip(places, kinds, strict=True))
    limit = min(MAX_RESULT_ROWS, MAX_RESULT_CELLS // len(names))
    found = connection.execute(
        f"SELECT {values} FROM {query} AS answer({', '.join(places)}) LIMIT {limit + 1}"  # noqa: S608
    ).fetchall()
    return {
        "sql": sql,
        "columns": [{"name": name, "kind": kind} for name, kind in zip(names, kinds, strict=True)],
        "rows": [[_json_value(value) for value in row] for row in found[:limit]],
        "truncated": len(found) > limit,
    }


def quoted(name: str) -> str:
    """Quote a column name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def column_kind(type_: DuckDBPyType) -> str:
    """Sort a database type into number, date and text, which is all else."""
    if type_.id in {"float", "double", "decimal"} or type_.id.endswith(("int", "integer")):
        return "number"
    return "date" if type_.id.startswith(("date", "timestamp")) else "text"


def _plain(expression: str, kind: str) -> str:
    # Python cannot hold every date that the database can, so dates come as text too.
    return expression if kind == "number" else f"({expression})::VARCHAR"


def _json_value(value: Any) -> Any:
    """Bound a database value; NaN and infinity become None, integers above 64 bits a float."""
    if isinstance(value, Decimal | float) or (isinstance(value, int) and abs(value) >= 2**63):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str) and len(value) > MAX_CELL_CHARACTERS:
        return f"{value[:MAX_CELL_CHARACTERS]}…"
    return [_json_value(item) for item in value] if isinstance(value, list) else value
