"""The analytics agent: profile a table, answer by SQL, draw the answer."""

from __future__ import annotations

from typing import Any

import duckdb

from graphs.analytics import prompts
from graphs.analytics.sql import is_sql
from graphs.analytics.state import MAX_SQL_CHARACTERS, DataInput, State
from graphs.analytics.tools import chart, profile, query
from graphs.kit.offload import in_thread
from graphs.kit.problems import InputProblem, parse_input
from graphs.kit.team import SubAgent, build_team, question


async def intake(state: State) -> dict[str, Any]:
    """Check the data's shape, and take the SQL of this turn from `sql` or from a message that is SQL."""
    parse_input(DataInput, state.get("data"), key="data")
    sql: object = state.get("sql")
    if sql is not None and not (isinstance(sql, str) and 0 < len(sql.strip()) <= MAX_SQL_CHARACTERS):
        raise InputProblem(
            "invalid_sql",
            f"'sql' is not a text of 1 to {MAX_SQL_CHARACTERS:,} characters.",
            "Send one SELECT over the table `data`, or leave `sql` out and ask in the message.",
        )
    asked = question(dict(state))
    if sql is None and asked and await in_thread(_is_sql, asked):
        sql = asked
    return {"sql": None, "asked_sql": sql}


def _is_sql(text: str) -> bool:
    with duckdb.connect(":memory:") as connection:
        return is_sql(connection, text)


graph = build_team(
    State,
    name="analytics",
    intake=intake,
    prompt=prompts.SUPERVISOR,
    rule=prompts.supervisor_rule,
    members=[
        SubAgent(
            "profiler",
            "describe the table's columns, ranges and gaps",
            prompts.PROFILER,
            [profile],
            prompts.profiler_rule,
        ),
        SubAgent(
            "analyst",
            "answer a question about the table by read-only SQL",
            prompts.ANALYST,
            [query],
            prompts.analyst_rule,
        ),
        SubAgent(
            "charter", "draw the analyst's table as a chart", prompts.CHARTER, [chart], prompts.charter_rule
        ),
    ],
)
