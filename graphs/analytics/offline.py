"""What the offline model does in the place of a real one: it knows a few forms of questions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Final

from langchain_core.messages import BaseMessage

from graphs.analytics.sql import quoted
from graphs.kit.offline import Call, Step, failure, in_order, tool_outputs, user_text

NOT_UNDERSTOOD: Final = """No question was understood. The offline model answers the likes of: average price
by region; total sales per month; how many orders by status; top 5 products by revenue. Any other question can
be asked as a SELECT under the key `sql`."""

AGGREGATES: Final = {"average": "avg", "mean": "avg", "median": "median", "total": "sum", "sum": "sum"}
GRAINS: Final = ("day", "week", "month", "quarter", "year")
REVENUE: Final = {"revenue", "sale", "turnover", "amount", "total"}
FILLER: Final = re.compile(r"\b(what|is|are|was|were|there|the|show|give|me|of|please)\b|[?!.]\s*$")
TOP: Final = re.compile(r"top (?:(\d{1,3}) )?(.+?) by (.+)")


def supervisor(messages: Sequence[BaseMessage]) -> Step:
    """Have the question answered; if it was understood, draw; then tell."""
    report = tool_outputs(messages).get("analyst", "")
    calls = [Call("analyst", task=user_text(messages))]
    if NOT_UNDERSTOOD not in report:
        calls.append(Call("chart"))
    return in_order(*calls, then=lambda said: "\n\n".join(tool_outputs(said).values()))(messages)


def analyst(messages: Sequence[BaseMessage]) -> Step:
    """Profile; run the caller's SQL, or the SQL that the question means; else describe the table."""
    done = tool_outputs(messages)
    if "profile" not in done or failure(messages):
        return in_order(Call("profile"), then=_tell_profile)(messages)
    sql = _sql(messages)
    if sql is None:
        return f"{_tell_profile(messages)}\n\n{NOT_UNDERSTOOD}"
    return done.get("query") or Call("query", sql=sql)


def _tell_profile(messages: Sequence[BaseMessage]) -> str:
    profile = json.loads(tool_outputs(messages)["profile"])
    lines = [f"The table has {profile['rows']:,} rows."]
    for column in profile["columns"]:
        about = f"{column['min']} to {column['max']}, {column['distinct']} different, {column['empty']} empty"
        lines.append(f"- {column['name']} ({column['kind']}): {about}")
    return "\n".join(lines)


def _sql(messages: Sequence[BaseMessage]) -> str | None:
    profile = json.loads(tool_outputs(messages)["profile"])
    kinds = {column["name"]: column["kind"] for column in profile["columns"]}
    return profile["caller_sql"] or plan_sql(user_text(messages), kinds)


def plan_sql(question: str, kinds: dict[str, str]) -> str | None:
    """Write the SELECT that answers a question about columns of these kinds, or None if it is not understood.

    A pattern or a column must explain every word: a wrong answer that looks right is worse than none.
    """
    text = " ".join(FILLER.sub(" ", question.lower()).split())
    if top := TOP.fullmatch(text):
        limit, by, measure = f" LIMIT {int(top[1] or 5)}", top[2], top[3]
    else:
        limit, (measure, _, by) = "", re.sub(r" (per|for each) ", " by ", text).partition(" by ")
    value = _value(measure, kinds) or (by and _value(f"total {measure}", kinds))
    group = _group(by, kinds)
    if not value or (by and not group):
        return None
    if not group:
        return f"SELECT {value} FROM data"  # noqa: S608
    # A series in time reads in its own order; anything else from the largest down.
    order = "1" if by in GRAINS and not top else "2 DESC NULLS LAST, 1"
    return f"SELECT {group}, {value} FROM data GROUP BY 1 ORDER BY {order}{limit}"  # noqa: S608


def _group(said: str, kinds: dict[str, str]) -> str | None:
    if name := _column(said, kinds):
        return quoted(name)
    day = next((name for name, kind in kinds.items() if kind == "date"), None)
    return f"date_trunc('{said}', {quoted(day)})::DATE AS {said}" if day and said in GRAINS else None


def _value(said: str, kinds: dict[str, str]) -> str | None:
    if counted := re.fullmatch(r"(?:how many|number|count) (.+)", said):
        if name := _column(f"{counted[1]} id", kinds):
            return f"count(DISTINCT {quoted(name)}) AS count"
        return "count(*) AS count" if counted[1] in {"rows", "records", "orders"} else None
    aggregate, _, about = said.partition(" ")
    function = AGGREGATES.get(aggregate)
    # Identifiers are no quantities, though they may be numbers.
    numbers = [name for name, kind in kinds.items() if kind == "number" and "id" not in _words(name)]
    name = _column(about, numbers)
    if _words(about) <= REVENUE:
        name = next((name for name in numbers if _words(name) <= REVENUE), None)
        quantity, price = _column("quantity", numbers), _column("price", numbers)
        if function and not name and quantity and price:
            return f"{function}({quoted(quantity)} * {quoted(price)}) AS {aggregate}_revenue"
    return f"{function}({quoted(name)}) AS {quoted(f'{aggregate}_{name}')}" if function and name else None


def _column(said: str, names: Iterable[str]) -> str | None:
    """Find the column whose name has all words that were said, and the fewest others."""
    fitting = [name for name in names if said and _words(said) <= _words(name)]
    return min(fitting, key=len, default=None)


def _words(text: str) -> set[str]:
    return {word.removesuffix("s") for word in re.findall(r"[^\W_]+", text.lower())}
