"""What the projects agent can do; each tool reads the plan from the state."""

from __future__ import annotations

import textwrap
from datetime import date
from typing import Any

from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from graphs.kit.findings import found
from graphs.kit.offload import in_thread
from graphs.kit.problems import InputProblem
from graphs.projects import schedule
from graphs.projects.chart import gantt
from graphs.projects.state import parse_plan


@tool
async def find_critical_path(runtime: ToolRuntime[Any, Any]) -> Command[Any]:
    """Schedule the tasks with their expected durations and find the critical path and each task's slack."""
    plan = await in_thread(parse_plan, runtime.state)
    dates = await in_thread(schedule.critical_path, plan)
    path = textwrap.shorten(", ".join(dates["critical_path"]), 1_000, placeholder=" …")
    says = (
        f"With expected durations (PERT means) the project takes {dates['duration_days']:g} working "
        f"days, from {dates['start_date']} to {dates['finish_date']}. Critical path: {path}."
    )
    return found(runtime, "schedule", dates, says)


@tool
async def simulate_finish(runtime: ToolRuntime[Any, Any], by_date: str | None = None) -> Command[Any]:
    """Simulate the finish date and find the tasks that put it at risk.

    The probability to meet the deadline is always told, that to meet by_date (YYYY-MM-DD) if it is given.
    """
    try:
        asked = date.fromisoformat(by_date) if by_date else None
    except ValueError as error:
        raise InputProblem("invalid_date", f"'{by_date}' is no date.", "Write it as YYYY-MM-DD.") from error
    plan = await in_thread(parse_plan, runtime.state)
    finish = await in_thread(schedule.simulate, plan, asked)
    dates = ", ".join(f"{level} {finish['percentiles'][level]['date']}" for level in ("P50", "P80", "P95"))
    met = "".join(f" By {day}: {share:.1%} probable." for day, share in finish["probabilities"].items())
    risks = [f"{risk['name']} (critical in {risk['criticality_index']:.0%})" for risk in finish["risks"]]
    says = (
        f"Simulated {finish['simulations']:,} times, the project finishes by: {dates}.{met} "
        f"Risks that matter: {', '.join(risks) or 'none'}. "
        "Assumed: independent PERT-beta durations, working days Monday to Friday."
    )
    return found(runtime, "finish", finish, says)


@tool
async def draw_gantt(runtime: ToolRuntime[Any, Any]) -> Command[Any]:
    """Draw the schedule as a Gantt chart (Vega-Lite v5), with the deadline and, if simulated, P80 marked."""
    plan = await in_thread(parse_plan, runtime.state)
    markers = {"deadline": str(plan.deadline)} if plan.deadline else {}
    if finish := runtime.state["result"].get("finish"):
        markers["P80"] = finish["percentiles"]["P80"]["date"]
    spec = gantt(await in_thread(schedule.critical_path, plan), markers)
    return found(runtime, "gantt", spec, f"The Gantt chart shows {len(plan.tasks)} tasks (in result.gantt).")
