"""Turns common questions into SQL by rule, for the offline model.

It reads the same column list that a real model gets. What it does not understand it leaves alone (None): a
wrong answer that looks right would be worse than none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from graphs.analytics.profile import quoted

Column = dict[str, Any]

GRAINS: Final = ("day", "week", "month", "quarter", "year")
AGGREGATES: Final = {
    "avg": ("average", "mean", "avg", "typical"),
    "median": ("median",),
    "sum": ("total", "sum", "overall"),
    "min": ("minimum", "min", "lowest", "smallest", "cheapest"),
    "max": ("maximum", "max", "highest", "largest", "biggest"),
}
ALIAS: Final = {"avg": "average", "sum": "total", "min": "lowest", "max": "highest", "median": "median"}
COUNT: Final = re.compile(r"\b(how many|number of|count|most|fewest)\b")
DISTINCT: Final = re.compile(r"\b(distinct|different|unique)\b")
SAME_MEANING: Final = ({"revenue", "sale", "turnover", "amount", "income"}, {"quantity", "qty", "unit"})
IDENTIFIERS: Final = {"id", "code", "key", "zip", "postcode", "phone", "year"}
ROWS: Final = {"row", "record", "line", "entry", "item", "order", "case"}

_GROUP: Final = re.compile(r"\b(?:by|per|for each|for every|in each|across|each|over)\s+([\w ,&-]+)")
_GROUP_END: Final = re.compile(r"\b(?:in|for|where|during|with|from|of|as|only|please)\b")
_TOP: Final = re.compile(r"\b(top|best|bottom|worst)\s+(\d{1,3}\s+)?([\w -]+?)\s+(?:by|in|with)\s+(.+)")
_WHICH: Final = re.compile(
    r"\b(?:which|what)\s+([\w -]+?)\s+\w+\s+(?:the\s+)?"
    r"(most|highest|largest|best|lowest|fewest|least|smallest)\b(.*)"
)
_SHOW: Final = re.compile(r"\b(?:show|list|first)\b.*?(\d{1,3})?\s*\b(?:rows|records|lines)\b")
# A condition that no column or value explains: an answer that ignored it would be wrong.
_CONDITION: Final = re.compile(
    r"\b(?:in|for|where|during|since|before|after|between|last|above|below|under|except|without|than|if|not)\b"
    r"(?!\s+(?:total|all|(?:the |my |this )?(?:data|table|file|dataset))\b)\s*\w"
)
_ASCENDING: Final = {"bottom", "worst", "lowest", "fewest", "least", "smallest"}


@dataclass
class _Plan:
    groups: list[tuple[str, str]]  # expression, alias
    measure: tuple[str, str]
    order: str
    limit: int | None = None


def plan_sql(question: str, columns: list[Column]) -> str | None:
    """Write the SELECT that answers a question about the table `data`, or None if it is not understood.

    Args:
        question: What the user asked.
        columns: Each with `name`, `kind` (number, text, date, …) and, for texts, frequent `values`.
    """
    text = re.sub(r"\s+", " ", question.lower()).strip(" ?.!")
    if show := _SHOW.search(text):
        return f"SELECT * FROM data LIMIT {int(show[1] or 10)}"  # noqa: S608
    filters, rest = _filters(text, columns)
    plan = _ranking(rest, columns) or _grouping(rest, columns)
    return _sql(plan, filters) if plan else None


def suggestions(columns: list[Column]) -> list[str]:
    """Name a few questions that the rules answer for these columns."""
    measure = next((c["name"] for c in columns if _is_measure(c)), None)
    text = next((c["name"] for c in columns if c["kind"] == "text"), None)
    day = next((c["name"] for c in columns if c["kind"] == "date"), None)
    asked = [
        f"average {measure} by {text}" if measure and text else None,
        f"total {measure} per month" if measure and day else None,
        f"top 5 {text} by {measure}" if measure and text else None,
        f"how many rows by {text}" if text else None,
        f"median {measure}" if measure else None,
    ]
    return [question for question in asked if question]


def _ranking(text: str, columns: list[Column]) -> _Plan | None:
    if top := _TOP.search(text):
        direction, limit, noun, about = top[1], int(top[2] or 5), top[3], top[4]
    elif which := _WHICH.search(text):
        direction, limit, noun, about = which[2], 1, which[1], f"{which[2]} {which[3]}"
    else:
        return None
    group = _find(noun, [c for c in columns if not _is_measure(c)])
    about = re.sub(r"^(highest|largest|lowest|smallest)\b", "", about)
    measure = _measure(about, columns, default="sum")
    if group is None or measure is None:
        return None
    order = f"2 {'ASC' if direction in _ASCENDING else 'DESC'} NULLS LAST, 1"
    return _Plan([(quoted(group["name"]), group["name"])], measure, order, limit)


def _grouping(text: str, columns: list[Column]) -> _Plan | None:
    groups: list[tuple[str, str]] = []
    in_time = False
    if match := _GROUP.search(text):
        phrase = _GROUP_END.split(match[1])[0]
        text = f"{text[: match.start()]} {match[1][len(phrase) :]} {text[match.end() :]}"
        for part in re.split(r",|&|\band\b", phrase):
            if not part.strip():
                continue
            group = _group(part, columns)
            if group is None:
                return None
            groups.append(group)
            in_time = in_time or group[1] in GRAINS
    measure = _measure(text, columns, default="sum" if groups else None)
    if measure is None:
        return None
    # A series in time reads in its own order; anything else from the largest down.
    order = ", ".join(str(place + 1) for place in range(len(groups)))
    if not in_time:
        order = f"{len(groups) + 1} DESC NULLS LAST, {order}"
    return _Plan(groups, measure, order)


def _group(phrase: str, columns: list[Column]) -> tuple[str, str] | None:
    grain = "month" if phrase.strip() == "time" else next((g for g in GRAINS if g in _words(phrase)), None)
    column = _find(phrase, [c for c in columns if not _is_measure(c)])
    if grain and (column is None or column["kind"] == "date"):
        day = column or next((c for c in columns if c["kind"] == "date"), None)
        return (f"CAST(date_trunc('{grain}', {quoted(day['name'])}) AS DATE)", grain) if day else None
    return (quoted(column["name"]), column["name"]) if column else None


def _measure(text: str, columns: list[Column], *, default: str | None) -> tuple[str, str] | None:
    if _CONDITION.search(text):
        return None
    words = _words(text)
    if DISTINCT.search(text):
        column = _find(text, columns)
        name = column["name"] if column else ""
        return (f"count(DISTINCT {quoted(name)})", f"distinct_{name}") if column else None
    measures = [c for c in columns if _is_measure(c)]
    column = _find(text, measures)
    aggregate = next((f for f, names in AGGREGATES.items() if words & {_singular(n) for n in names}), None)
    if COUNT.search(text) and aggregate is None:
        # "how many units" adds up a column of units; "how many orders" counts rows.
        if column is None:
            return "count(*)", "count"
        aggregate = "sum"
    aggregate = aggregate or default
    if aggregate is None:
        return None
    if column is not None:
        return f"{aggregate}({quoted(column['name'])})", f"{ALIAS[aggregate]}_{column['name']}"
    if words & SAME_MEANING[0] and (product := _quantity_times_price(measures)):
        return f"{aggregate}({product})", f"{ALIAS[aggregate]}_revenue"
    identifiers = {
        w for c in columns if (names := _words(c["name"])) & IDENTIFIERS for w in names - IDENTIFIERS
    }
    return ("count(*)", "count") if default and words & (ROWS | identifiers) else None


def _quantity_times_price(measures: list[Column]) -> str | None:
    quantity = next((c for c in measures if _words(c["name"]) & {"quantity", "qty"}), None) or next(
        (c for c in measures if _words(c["name"]) == {"unit"}), None
    )
    price = next((c for c in measures if "price" in _words(c["name"])), None)
    return f"{quoted(quantity['name'])} * {quoted(price['name'])}" if quantity and price else None


def _filters(text: str, columns: list[Column]) -> tuple[list[str], str]:
    filters: list[str] = []
    for column in columns:
        if column["kind"] != "text":
            continue
        for value in column.get("values", []):
            match = re.search(
                rf"(?<!\w)(?:(?:in|for|from) (?:the )?)?{re.escape(str(value).lower())}(?!\w)", text
            )
            if match and len(str(value)) > 1:
                literal = str(value).replace("'", "''")
                filters.append(f"{quoted(column['name'])} = '{literal}'")
                text = f"{text[: match.start()]} {text[match.end() :]}"
                break
    day = next((c for c in columns if c["kind"] == "date"), None)
    if day and (year := re.search(r"\b(?:in|during|for|of) ((?:19|20)\d\d)\b", text)):
        filters.append(f"year({quoted(day['name'])}) = {year[1]}")
        text = text.replace(year[0], " ")
    return filters, text


def _find(phrase: str, columns: list[Column]) -> Column | None:
    words = _words(phrase)
    wider = words.union(*(same for same in SAME_MEANING if words & same))
    best: tuple[float, Column | None] = (0.49, None)
    for column in columns:
        names = _words(column["name"])
        if not names:
            continue
        # The column whose name is said most completely; a synonym counts a little less than the word itself.
        score = (len(names & words) + 0.9 * len((names - words) & wider)) / len(names)
        if score > best[0]:
            best = (score, column)
    return best[1]


def _is_measure(column: Column) -> bool:
    return column["kind"] == "number" and not _words(column["name"]) & IDENTIFIERS


def _words(text: str) -> set[str]:
    split = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text).lower()
    return {_singular(word) for word in re.findall(r"[^\W_]+", split)}


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def _sql(plan: _Plan, filters: list[str]) -> str:
    expressions = [*plan.groups, plan.measure]
    lines = ["SELECT " + ", ".join(f"{expression} AS {quoted(alias)}" for expression, alias in expressions)]
    lines.append("FROM data")
    if filters:
        lines.append("WHERE " + " AND ".join(filters))
    if plan.groups:
        lines.append("GROUP BY " + ", ".join(str(i + 1) for i in range(len(plan.groups))))
        lines.append(f"ORDER BY {plan.order}")
    if plan.limit:
        lines.append(f"LIMIT {plan.limit}")
    return "\n".join(lines)
