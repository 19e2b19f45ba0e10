"""A Gantt chart as a Vega-Lite v5 specification."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from typing import Any


def gantt(schedule: dict[str, Any], markers: dict[str, str]) -> dict[str, Any]:
    """Draw the scheduled tasks as bars, critical ones apart, milestones as diamonds.

    Args:
        schedule: What `critical_path` returned.
        markers: Dates (ISO) to mark with a line across the chart, by their label.
    """
    named = Counter(task["name"] for task in schedule["tasks"])
    rows = [
        {
            # Two tasks of one name would share a row.
            "task": task["name"] if named[task["name"]] == 1 else f"{task['name']} ({task['id']})",
            "start": _local(task["start_date"]),
            "end": _local(task["finish_date"], evening=True),
            "kind": "critical" if task["critical"] else "has slack",
            "slack_days": task["slack_days"],
            "milestone": task["expected_days"] == 0,
        }
        for task in sorted(schedule["tasks"], key=lambda task: (task["start_day"], task["finish_day"]))
    ]
    task_row = {
        "y": {"field": "task", "type": "nominal", "sort": None, "title": None},
        "color": {
            "field": "kind",
            "type": "nominal",
            "title": None,
            "scale": {"domain": ["critical", "has slack"], "range": ["#c0392b", "#4a7fb5"]},
        },
        "tooltip": [
            {"field": "task", "type": "nominal"},
            {"field": "start", "type": "temporal"},
            {"field": "end", "type": "temporal"},
            {"field": "slack_days", "type": "quantitative"},
        ],
    }
    bars = {
        "data": {"values": [row for row in rows if not row["milestone"]]},
        "mark": {"type": "bar", "cornerRadius": 2},
        "encoding": {
            **task_row,
            "x": {"field": "start", "type": "temporal", "title": None},
            "x2": {"field": "end"},
        },
    }
    milestones = {
        "data": {"values": [row for row in rows if row["milestone"]]},
        "mark": {"type": "point", "shape": "diamond", "filled": True, "size": 120},
        "encoding": {**task_row, "x": {"field": "end", "type": "temporal"}},
    }
    lines = {
        "data": {"values": [{"date": _local(day, True), "line": label} for label, day in markers.items()]},
        "mark": {"type": "rule"},
        "encoding": {
            "x": {"field": "date", "type": "temporal"},
            "strokeDash": {"field": "line", "type": "nominal", "title": None},
        },
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "description": f"Gantt chart, {schedule['start_date']} to {schedule['finish_date']}",
        "width": 640,
        "height": {"step": 22},
        "layer": [bars, milestones, lines] if markers else [bars, milestones],
    }


def _local(iso_date: str, evening: bool = False) -> str:
    # A bare date is read as UTC midnight and drawn a day early west of Greenwich; with a time it is local.
    # A task's last day and a deadline count until their evening, which is where the next day begins.
    return f"{date.fromisoformat(iso_date) + timedelta(days=evening)}T00:00:00"
