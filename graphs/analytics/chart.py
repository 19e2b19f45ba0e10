"""Draws a table as a Vega-Lite v5 specification with its values inside."""

from __future__ import annotations

import re
from typing import Any, Final

SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v5.json"
MAX_POINTS: Final = 500
VEGA_TYPES: Final = {"number": "quantitative", "date": "temporal", "text": "nominal", "boolean": "nominal"}


def chart_spec(table: dict[str, Any]) -> dict[str, Any] | None:
    """Choose and write the chart of a table: line in time, bars by category, or points.

    Args:
        table: A result of `sql.run_select`.

    Returns:
        The specification, or None when there is nothing to draw: fewer than two rows, or no number to show.
    """
    columns = table["columns"]
    rows = table["rows"][:MAX_POINTS]
    numbers = [c for c in columns if c["kind"] == "number"]
    days = [c for c in columns if c["kind"] == "date"]
    categories = [c for c in columns if c["kind"] in {"text", "boolean"}]
    if len(rows) < 2 or not numbers:
        return None
    if days:
        mark, x, y, colours = "line", days[0], numbers[0], categories
    elif categories:
        mark, x, y, colours = "bar", categories[0], numbers[0], categories[1:]
    elif len(numbers) > 1:
        mark, x, y, colours = "point", numbers[0], numbers[1], []
    else:
        return None
    encoding = {"x": _channel(x), "y": _channel(y)}
    if mark == "bar":
        encoding["x"]["sort"] = None  # the order of the table is the order of the answer
    if colours:
        encoding["color"] = _channel(colours[0])
        if mark == "bar":
            encoding["xOffset"] = _channel(colours[0])  # side by side: stacked averages would mislead
    names = [column["name"] for column in columns]
    return {
        "$schema": SCHEMA,
        "description": f"{y['name']} by {x['name']}",
        "data": {"values": [dict(zip(names, row, strict=True)) for row in rows]},
        "mark": {"type": mark, "tooltip": True},
        "encoding": encoding,
    }


def _channel(column: dict[str, Any]) -> dict[str, Any]:
    # A dot or bracket in a field name means a nested object to Vega-Lite unless it is escaped.
    field = re.sub(r"([.\[\]\\'\"])", r"\\\1", column["name"])
    return {"field": field, "type": VEGA_TYPES[column["kind"]], "title": column["name"]}
