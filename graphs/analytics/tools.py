"""What the sub-agents can call. The data stays in the state; models see summaries."""

from __future__ import annotations

import json
from typing import Any, Final

from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from graphs.analytics.chart import MAX_POINTS, chart_spec
from graphs.analytics.state import MAX_SQL_CHARACTERS, DataInput, read_content
from graphs.analytics.warehouse import KILL_SECONDS, Outcome, profile_data, query_data
from graphs.kit.offload import in_process
from graphs.kit.problems import InputProblem, Problem, parse_input
from graphs.kit.team import found

SHOWN_ROWS: Final = 10
SHOWN_COLUMNS: Final = 60
SHOWN_VALUES: Final = 12
SHOWN_CHARACTERS: Final = 40
SHOWN_SQL_CHARACTERS: Final = 400

Runtime = ToolRuntime[Any, Any]


@tool
async def profile(runtime: Runtime) -> Command[Any]:
    """Profile the table: its columns with types, ranges and frequent values, as JSON."""
    value = _unwrap(await in_process(profile_data, await _content(runtime), timeout_seconds=KILL_SECONDS))
    brief = {
        "table": "data",
        "rows": value["rows"],
        "columns": [_brief(column) for column in value["columns"][:SHOWN_COLUMNS]],
        "notes": value["notes"][:SHOWN_VALUES],
        "caller_sql": runtime.state.get("asked_sql"),
    }
    return found(runtime, "profile", value, json.dumps(brief, ensure_ascii=False))


@tool
async def query(runtime: Runtime, sql: str = "") -> Command[Any]:
    """Answer by one read-only SELECT over the table `data`.

    Args:
        sql: The SELECT, in DuckDB's dialect. Leave it empty to run the caller's own SQL.
        runtime: Given by the platform.
    """
    asked = runtime.state.get("asked_sql")
    statement = sql or asked or ""
    if len(statement) > MAX_SQL_CHARACTERS:
        return _correct(runtime, f"The SQL has more than {MAX_SQL_CHARACTERS:,} characters.")
    outcome = await in_process(query_data, await _content(runtime), statement, timeout_seconds=KILL_SECONDS)
    problem = outcome[1]
    if problem and problem["code"].startswith("sql_") and sql and sql != asked:
        # The model wrote this SQL, so the model corrects it; the caller's own SQL is the caller's problem.
        return _correct(runtime, f"{problem['message']} {problem['cure']}")
    table = _unwrap(outcome)
    says = f"{_table_text(table)}\nSQL: {' '.join(table['sql'].split())[:SHOWN_SQL_CHARACTERS]}"
    return found(runtime, "table", table, says)


@tool
async def chart(runtime: Runtime) -> Command[Any]:
    """Draw the table that `query` found in this turn as a Vega-Lite chart."""
    table = runtime.state.get("result", {}).get("table")
    spec = chart_spec(table) if table else None
    if spec is None:
        text = "There is nothing to draw: a chart needs a table of at least two rows with a number."
        return Command(update={"messages": [ToolMessage(text, tool_call_id=runtime.tool_call_id)]})
    cut = f" of the first {MAX_POINTS} rows" if len(table["rows"]) > MAX_POINTS else ""
    return found(runtime, "chart", spec, f"Drew a {spec['mark']['type']} chart{cut}: {spec['description']}.")


async def _content(runtime: Runtime) -> bytes:
    return await read_content(parse_input(DataInput, runtime.state.get("data"), key="data"))


def _unwrap(outcome: Outcome) -> dict[str, Any]:
    value, problem = outcome
    if problem is not None:
        raise InputProblem(**_fields(problem))
    assert value is not None
    return value


def _fields(problem: Problem) -> dict[str, str]:
    return {"code": problem["code"], "message": problem["message"], "cure": problem["cure"]}


def _correct(runtime: Runtime, text: str) -> Command[Any]:
    message = ToolMessage(text, tool_call_id=runtime.tool_call_id, status="error")
    return Command(update={"messages": [message]})


def _brief(column: dict[str, Any]) -> dict[str, Any]:
    brief: dict[str, Any] = {
        key: column[key] for key in ("name", "type", "kind", "empty", "distinct") if key in column
    }
    if "top" in column:
        brief["values"] = [_short(item["value"]) for item in column["top"][:SHOWN_VALUES]]
    elif "min" in column:
        brief |= {"min": _short(column["min"]), "max": _short(column["max"])}
    return brief


def _short(value: Any) -> Any:
    return value[:SHOWN_CHARACTERS] if isinstance(value, str) else value


def _table_text(table: dict[str, Any]) -> str:
    names = [column["name"] for column in table["columns"]]
    rows = table["rows"]
    if not rows:
        return f"No row matches (columns: {', '.join(names)})."
    if len(rows) == 1 and len(names) == 1:
        return f"{names[0]}: {_figure(rows[0][0])}."
    lines = [" | ".join(_figure(value) for value in row) for row in rows[:SHOWN_ROWS]]
    more = f"\n… and {len(rows) - SHOWN_ROWS} more rows" if len(rows) > SHOWN_ROWS else ""
    cut = (
        f"\nThe answer was cut at {len(rows):,} rows; narrow the question for the rest."
        if table["truncated"]
        else ""
    )
    return "\n".join([" | ".join(names), *lines]) + more + cut


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 0.01 or value == 0 else f"{value:.3g}"
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(_short(value))
