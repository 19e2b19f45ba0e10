"""What the models are told, and what the offline model does instead of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage

from graphs.analytics.ask import plan_sql, suggestions
from graphs.kit.offline import Call, Step, in_order, tool_outputs, user_text

SUPERVISOR: Final = """\
You lead a small analytics team for a table called `data` that the user sent; you never see its rows.
First ask the profiler. If the user asked a question, or the profile names a caller_sql, ask the analyst, and
then the charter. Then answer in a few plain sentences with the figures that matter, and name the SQL's
assumptions. Never invent a figure: use only what the team found."""

PROFILER: Final = "You profile the table: call `profile` once, then say in two sentences what stands out."

ANALYST: Final = """\
You answer questions by SQL. The table is called `data`; its columns are in the profile. Call `query` with one
DuckDB SELECT (quote column names with double quotes, name every computed column). If the profile names a
caller_sql, call `query` with empty sql. If the database refuses, correct the SQL and call again, at most
three times. Then state the answer."""

CHARTER: Final = "You draw the answer: call `chart` once, then say in one sentence what it shows."


def supervisor_rule(messages: Sequence[BaseMessage]) -> Step:
    """Profile; if the question is understood, query and draw; then tell."""
    done = tool_outputs(messages)
    if "ask_profiler" not in done:
        return Call("ask_profiler", task="Profile the table.")
    if _next_sql(messages) is None:
        return _tell_profile(_profile(messages))
    if "ask_analyst" not in done:
        return Call("ask_analyst", task="Answer the question by SQL.")
    if "ask_charter" not in done:
        return Call("ask_charter", task="Draw the answer.")
    return f"{done['query']}\n{done['chart']}" if done["chart"].startswith("Drew") else done["query"]


def analyst_rule(messages: Sequence[BaseMessage]) -> Step:
    """Run the caller's SQL, or the SQL that the question means."""
    done = tool_outputs(messages)
    if "query" in done:
        return done["query"]
    return Call("query", sql=_next_sql(messages) or "")


profiler_rule = in_order(Call("profile"), then=lambda messages: _tell_size(_profile(messages)))
charter_rule = in_order(Call("chart"), then=lambda messages: tool_outputs(messages)["chart"])


def _profile(messages: Sequence[BaseMessage]) -> dict[str, Any]:
    profile: dict[str, Any] = json.loads(tool_outputs(messages)["profile"])
    return profile


def _next_sql(messages: Sequence[BaseMessage]) -> str | None:
    profile = _profile(messages)
    if profile["caller_sql"]:
        return ""
    return plan_sql(user_text(messages), profile["columns"])


def _tell_size(profile: dict[str, Any]) -> str:
    return f"The table has {profile['rows']:,} rows and {len(profile['columns'])} columns."


def _tell_profile(profile: dict[str, Any]) -> str:
    lines = [_tell_size(profile)]
    for column in profile["columns"]:
        if "min" in column:
            about = f"{column['min']} to {column['max']}"
        elif column.get("values"):
            about = f"{column['distinct']} values, such as {', '.join(map(str, column['values'][:3]))}"
        else:
            about = column["type"]
        lines.append(f"- {column['name']} ({column['kind']}): {about}; {column['empty']} empty")
    lines += profile["notes"]
    asked = suggestions(profile["columns"])
    if asked:
        lines.append(
            "No question was understood. Questions that can be answered offline: " + "; ".join(asked) + "."
        )
    lines.append("Any other question can be asked as a SELECT over the table `data` under the key `sql`.")
    return "\n".join(lines)
