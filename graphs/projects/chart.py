"""A Gantt chart as a Vega-Lite v5 specification."""

from __future__ import annotations

from typing import Any


def gantt(schedule: dict[str, Any], markers: dict[str, str]) -> dict[str, Any]:
    """Draw what `critical_path` returned as bars, and a line at each marker (ISO dates by their labels)."""
    # A bare date is read as UTC midnight and drawn a day early west of Greenwich; with a time it is local.
    rows = [
        {
            "task": task["id"] if task["name"] == task["id"] else f"{task['name']} ({task['id']})",
            "start": f"{task['start_date']}T00:00:00",
            "end": f"{task['finish_date']}T23:59:59",
            "kind": "critical" if task["critical"] else "has slack",
            "slack_days": task["slack_days"],
        }
        for task in sorted(schedule["tasks"], key=lambda task: (task["start_date"], task["finish_date"]))
    ]
    bars = {
        "data": {"values": rows},
        "mark": {"type": "bar", "tooltip": {"content": "data"}},
        "encoding": {
            "x": {"field": "start", "type": "temporal", "title": None},
            "x2": {"field": "end"},
            "y": {"field": "task", "type": "nominal", "sort": None, "title": None},
            "color": {"field": "kind", "type": "nominal", "title": None},
        },
    }
    lines = {
        "data": {"values": [{"date": f"{day}T23:59:59", "line": label} for label, day in markers.items()]},
        "mark": "rule",
        "encoding": {
            "x": {"field": "date", "type": "temporal"},
            "strokeDash": {"field": "line", "type": "nominal", "title": None},
        },
    }
    schema = "https://vega.github.io/schema/vega-lite/v5.json"
    return {"$schema": schema, "width": 640, "layer": [bars, lines]}
