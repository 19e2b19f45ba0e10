"""The analytics agent: a supervisor with a sub-agent that answers by SQL and a tool that draws."""

from __future__ import annotations

import base64
from typing import Any, Final

from langchain.agents import create_agent
from langgraph.graph.state import CompiledStateGraph

from graphs.analytics import offline
from graphs.analytics.state import DataInput, SqlInput, State
from graphs.analytics.tools import chart, profile, query
from graphs.kit.attachments import File
from graphs.kit.context import Context
from graphs.kit.delegate import sub_agent
from graphs.kit.intake import Intake
from graphs.kit.middleware import standard
from graphs.kit.offline import OfflineChatModel
from graphs.kit.problems import InputProblem, parse_input
from graphs.kit.turn import Turn

SUPERVISOR: Final = """You answer questions about a table that was sent; your tools read it, so never ask
for it. Ask the analyst, who profiles the table and answers by SQL: pass the question on in full. Then draw
the answer with chart if a table was found. Then answer in a few sentences with the figures that the
analyst found (invent none) and the SQL's assumptions."""
ANALYST: Final = """First call `profile`. If the task asks more than a description, or the profile names a
caller_sql, call `query` with one DuckDB SELECT over the table `data`, whose columns the profile lists
(quote their names with double quotes, name computed columns); a caller_sql is run instead of yours. If the
database refuses, correct the SQL and call again, at most three times. Then state the answer and the
SQL."""


async def check_input(state: dict[str, Any], turn: Turn) -> dict[str, Any]:
    """Check the shape of what was sent, and take the SQL of this turn."""
    data = state.get("data")
    if not (turn.sent or turn.attached) and (name := turn.named_file(".csv", ".parquet")):
        data = {"path": name}
    if data is None:
        raise InputProblem(
            "missing_data",
            "There is no table yet.",
            "Attach a CSV or Parquet file, name one of the data folder, or send it, for example: "
            '{"data": {"csv": "region,price\\nNorth,10.5\\nSouth,25"}}',
        )
    parse_input(DataInput, data, key="data")
    if (sql := state.get("sql")) is not None:
        parse_input(SqlInput, sql, key="sql")
    return {"sql": None, "asked_sql": sql, **({"data": data} if data is not state.get("data") else {})}


def accept(file: File) -> dict[str, Any]:
    """Take an attached table: Parquet by its first bytes, else CSV."""
    if file.content.startswith(b"PAR1"):
        return {"data": {"parquet_base64": base64.b64encode(file.content).decode()}}
    try:
        return {"data": {"csv": file.content.decode("utf-8-sig")}}
    except UnicodeDecodeError as error:
        cure = "Attach a CSV file in UTF-8, or a Parquet file."
        raise InputProblem("unreadable_file", f"'{file.name}' is neither text nor Parquet.", cure) from error


analyst = sub_agent(
    "analyst",
    "Describe the table, and answer a question about it by read-only SQL.",
    prompt=ANALYST,
    tools=[profile, query],
    script=offline.analyst,
    state_schema=State,
    reads=("data", "asked_sql"),
)
graph: CompiledStateGraph[Any, Context, Any, Any] = create_agent(
    OfflineChatModel(rule=offline.supervisor),
    [analyst, chart],
    system_prompt=SUPERVISOR,
    middleware=[Intake(check_input, keys=("data",), accept=accept), *standard()],
    state_schema=State,
    context_schema=Context,
    name="analytics",
)
