"""What the project sub-agents can do; each reads the plan from the state."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from graphs.kit.offload import in_thread
from graphs.kit.problems import InputProblem
from graphs.kit.team import found
from graphs.projects import chart
from graphs.projects.schedule import critical_path
from graphs.projects.simulation import simulate
from graphs.projects.state import parse_plan

MAX_SHOWN: Final = 12
"""Longer critical paths are shortened in sentences; the state holds them whole."""


@tool
async def find_critical_path(runtime: ToolRuntime[Any, Any]) -> Command[Any]:
    """Schedule the tasks with their expected durations and find the critical path and each task's slack."""
    plan = parse_plan(runtime.state)
    schedule = await in_thread(critical_path, plan)
    names = {task["id"]: task["name"] for task in schedule["tasks"]}
    loose = [task for task in schedule["tasks"] if not task["critical"]]
    says = (
        f"With expected durations (PERT means) the project takes {schedule['duration_days']:g} working days, "
        f"from {schedule['start_date']} to {schedule['finish_date']}. "
        f"Critical path: {_chain([names[task_id] for task_id in schedule['critical_path']])}."
    )
    if loose:
        tightest = min(loose, key=lambda task: task["slack_days"])
        says += f" Least slack off the path: {tightest['name']}, {tightest['slack_days']:g} days."
    return found(runtime, "schedule", schedule, says)


@tool
async def simulate_finish(
    runtime: ToolRuntime[Any, Any],
    by_date: str | None = None,
    confidence_percent: float | None = None,
) -> Command[Any]:
    """Simulate the finish date (P50, P80, P95) and find the tasks that put it at risk.

    Args:
        runtime: Given by the graph.
        by_date: A date (YYYY-MM-DD) whose probability of being met is asked; the plan's deadline always is.
        confidence_percent: A confidence, between 1 and 99, whose finish date is asked.
    """
    plan = parse_plan(runtime.state)
    asked = [] if confidence_percent is None else [_confidence(confidence_percent)]
    dates: dict[str, date] = {"deadline": plan.deadline} if plan.deadline else {}
    if by_date:
        dates["asked"] = _date(by_date)
    finish = await in_thread(simulate, plan, dates, asked)
    levels = ", ".join(f"{name} {level['date']}" for name, level in finish["percentiles"].items())
    says = [f"Simulated {finish['simulations']:,} times, the project finishes by: {levels}."]
    says += [
        f"Probability to finish by {met['date']}{' (the deadline)' if name == 'deadline' else ''}: "
        f"{met['probability']:.1%}."
        for name, met in finish["probabilities"].items()
    ]
    risks = [
        f"{risk['name']} (critical in {risk['criticality_index']:.0%} of the simulations, "
        f"correlation with the finish {risk['correlation']:.2f})"
        for risk in finish["risks"][:3]
    ]
    says.append(f"Risks that matter: {'; '.join(risks)}." if risks else "No task's spread moves the finish.")
    says.append("Assumed: independent PERT-beta durations, working days Monday to Friday.")
    return found(runtime, "finish", finish, " ".join(says))


@tool
async def draw_gantt(runtime: ToolRuntime[Any, Any]) -> Command[Any]:
    """Draw the schedule as a Gantt chart (Vega-Lite v5), with the deadline and, if simulated, P80 marked."""
    plan = parse_plan(runtime.state)
    schedule = await in_thread(critical_path, plan)
    markers = {"deadline": plan.deadline.isoformat()} if plan.deadline else {}
    finish = runtime.state.get("result", {}).get("finish")
    if finish:
        markers["P80"] = finish["percentiles"]["P80"]["date"]
    spec = chart.gantt(schedule, markers)
    count = len(schedule["tasks"])
    return found(runtime, "gantt", spec, f"The Gantt chart shows {count} tasks (Vega-Lite, in result.gantt).")


def _chain(names: list[str]) -> str:
    shown = (
        names
        if len(names) <= MAX_SHOWN
        else [*names[: MAX_SHOWN - 1], f"({len(names) - MAX_SHOWN} more)", names[-1]]
    )
    return " → ".join(shown)


def _confidence(percent: float) -> float:
    if not 1 <= percent <= 99:
        raise InputProblem(
            "invalid_confidence", f"{percent:g} % is no usable confidence.", "Ask for 1 to 99 percent."
        )
    return float(percent)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InputProblem("invalid_date", f"'{text[:40]}' is no date.", "Write it as YYYY-MM-DD.") from error
