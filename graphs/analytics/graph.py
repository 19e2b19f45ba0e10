"""The analytics agent: profile a table, answer by SQL, draw the answer."""

from __future__ import annotations

from typing import Any

from graphs.analytics import prompts
from graphs.analytics.state import DataInput, SqlInput, State
from graphs.analytics.tools import chart, profile, query
from graphs.kit.problems import parse_input
from graphs.kit.team import SubAgent, build_team


async def intake(state: State) -> dict[str, Any]:
    """Check the shape of what was sent, and take the SQL of this turn."""
    parse_input(DataInput, state.get("data"), key="data")
    if (sql := state.get("sql")) is not None:
        parse_input(SqlInput, sql, key="sql")
    return {"sql": None, "asked_sql": sql}


graph = build_team(
    State,
    name="analytics",
    intake=intake,
    prompt=prompts.SUPERVISOR,
    rule=prompts.supervisor_rule,
    members=[
        SubAgent("profiler", "describe the columns", prompts.PROFILER, [profile], prompts.profiler_rule),
        SubAgent("analyst", "answer by read-only SQL", prompts.ANALYST, [query], prompts.analyst_rule),
        SubAgent("charter", "draw the analyst's table", prompts.CHARTER, [chart], prompts.charter_rule),
    ],
)
