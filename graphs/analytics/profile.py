"""Describes each column of the table: type, empty values, range, and the most frequent values."""

from __future__ import annotations

from typing import Any, Final

import duckdb

from graphs.analytics.sql import as_plain, column_kind, json_value

TOP_VALUES: Final = 12
MOSTLY_EMPTY: Final = 0.5


def quoted(name: str) -> str:
    """Quote a column name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def count_rows(connection: duckdb.DuckDBPyConnection) -> int:
    """Count the rows of the table `data`."""
    row = connection.execute("SELECT count(*) FROM data").fetchone()
    return int(row[0]) if row else 0


def profile_table(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Profile the table `data`.

    Returns:
        `rows`, `columns` (one dictionary a column) and `notes` (sentences on what stands out).
    """
    table = connection.table("data")
    rows = count_rows(connection)
    columns = [
        _profile_column(connection, name, str(kind))
        for name, kind in zip(table.columns, table.types, strict=True)
    ]
    return {"rows": rows, "columns": columns, "notes": _notes(columns, rows)}


def _profile_column(connection: duckdb.DuckDBPyConnection, name: str, type_name: str) -> dict[str, Any]:
    kind = column_kind(type_name)
    column = quoted(name)
    found: dict[str, Any] = {"name": name, "type": type_name, "kind": kind}
    asked = {"empty": f"count(*) - count({column})"}
    if kind != "other":
        asked |= {
            "distinct": f"count(DISTINCT {column})",
            "min": as_plain(f"min({column})", type_name),
            "max": as_plain(f"max({column})", type_name),
        }
    if kind == "number":
        # As DOUBLE: the sum behind an average of huge integers would overflow.
        asked |= {"mean": f"avg({column}::DOUBLE)", "median": f"median({column}::DOUBLE)"}
    values = connection.execute(f"SELECT {', '.join(asked.values())} FROM data").fetchone() or ()  # noqa: S608
    found |= {key: json_value(value) for key, value in zip(asked, values, strict=True)}
    if kind in {"text", "boolean"}:
        top = connection.execute(
            f"SELECT {as_plain(column, type_name)}, count(*) FROM data WHERE {column} IS NOT NULL "  # noqa: S608
            f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {TOP_VALUES}"
        ).fetchall()
        found["top"] = [{"value": json_value(value), "count": count} for value, count in top]
    return found


def _notes(columns: list[dict[str, Any]], rows: int) -> list[str]:
    notes: list[str] = []
    for column in columns:
        name, empty = column["name"], column["empty"]
        if empty == rows:
            notes.append(f"'{name}' is empty.")
        elif empty > rows * MOSTLY_EMPTY:
            notes.append(f"'{name}' is empty in {empty:,} of {rows:,} rows.")
        elif column.get("distinct") == 1 and rows > 1:
            notes.append(f"'{name}' has the same value in every row that has one.")
    return notes
