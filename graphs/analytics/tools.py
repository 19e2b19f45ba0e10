"""What the supervisor and the analyst can call. The data stays in the state; models see summaries."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from graphs.analytics.sql import profile_data, query_data
from graphs.analytics.state import DataInput
from graphs.kit.datafolder import read_data_file
from graphs.kit.findings import found
from graphs.kit.offload import in_process
from graphs.kit.problems import parse_input

WORK_SECONDS: Final = 20.0
SHOWN_ROWS: Final = 10
SHOWN_COLUMNS: Final = 60
MAX_POINTS: Final = 500
VEGA_TYPES: Final = {"number": "quantitative", "date": "temporal", "text": "nominal"}

Runtime = ToolRuntime[Any, Any]


@tool
async def profile(runtime: Runtime) -> Command[Any]:
    """Profile the table: its columns with kinds, ranges and frequent values, as JSON."""
    value = await in_process(profile_data, await _content(runtime), timeout_seconds=WORK_SECONDS)
    brief = {
        **value,
        "columns": value["columns"][:SHOWN_COLUMNS],
        "caller_sql": runtime.state.get("asked_sql"),
    }
    return found(runtime, "profile", value, json.dumps(brief, ensure_ascii=False))


@tool
async def query(runtime: Runtime, sql: str) -> Command[Any]:
    """Answer by one read-only DuckDB SELECT over the table `data`; the caller's own SQL goes before it."""
    asked, content = runtime.state.get("asked_sql"), await _content(runtime)
    table = await in_process(query_data, content, asked or sql, timeout_seconds=WORK_SECONDS)
    return found(runtime, "table", table, f"{_table_text(table)}\nSQL: {table['sql']}")


@tool
async def chart(runtime: Runtime) -> Command[Any] | str:
    """Draw the table that `query` found in this turn as a Vega-Lite chart."""
    table = runtime.state["result"].get("table")
    spec = chart_spec(table) if table else None
    if spec is None:
        return "No chart: it takes two rows or more, a number and something to set it against."
    return found(runtime, "chart", spec, f"Drew a {spec['mark']} chart: {spec['description']}.")


async def _content(runtime: Runtime) -> bytes:
    data = parse_input(DataInput, runtime.state["data"], key="data")
    if data.path is not None:
        return await read_data_file(data.path, max_bytes=20_000_000)
    return data.parquet_base64 or (data.csv or "").encode()


def chart_spec(table: dict[str, Any]) -> dict[str, Any] | None:
    """Write a table as a Vega-Lite v5 chart: a line in time, bars by category, or points."""
    columns, rows = table["columns"], table["rows"][:MAX_POINTS]
    numbers = [column for column in columns if column["kind"] == "number"]
    others = [column for column in columns if column["kind"] != "number"]
    if len(rows) < 2 or not numbers or len(columns) < 2:
        return None
    x, y = (others[0], numbers[0]) if others else numbers[:2]
    encoding = {"x": _channel(x), "y": _channel(y)}
    if x["kind"] == "text":
        encoding["x"]["sort"] = None  # the order of the table is the order of the answer
    if len(others) > 1:
        encoding["color"] = _channel(others[1])
    names = [column["name"] for column in columns]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "description": f"{y['name']} by {x['name']}",
        "data": {"values": [dict(zip(names, row, strict=True)) for row in rows]},
        "mark": {"date": "line", "text": "bar", "number": "point"}[x["kind"]],
        "encoding": encoding,
    }


def _channel(column: dict[str, Any]) -> dict[str, Any]:
    # A dot or bracket in a field name means a nested object to Vega-Lite unless it is escaped.
    field = re.sub(r"([.\[\]\\'\"])", r"\\\1", column["name"])
    return {"field": field, "type": VEGA_TYPES[column["kind"]], "title": column["name"]}


def _table_text(table: dict[str, Any]) -> str:
    lines = [[column["name"] for column in table["columns"]], *table["rows"][:SHOWN_ROWS]]
    text = "\n".join(" | ".join(map(_figure, line)) for line in lines)
    return f"{text}\n({len(table['rows']):,} rows{'; the rest was cut' if table['truncated'] else ''})"


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 0.01 else f"{value:.3g}"
    return "-" if value is None else str(value)
