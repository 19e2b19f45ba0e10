"""The critical path, and the Monte-Carlo simulation of the finish date.

Times are working days from the start of the project. Arrays have a row a task and a column a draw; the
critical path is the same computation with one column, the expected durations.
"""

from __future__ import annotations

import math
from datetime import date
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphs.projects.state import Plan

SEED: Final = 20_260  # fixed, so that the same plan gives the same answer at every attempt
TOLERANCE_DAYS: Final = 1e-6  # sums of fractions that are equal on paper may differ by this
CALENDAR: Final = "estimates are working days, Monday to Friday, without public holidays"

Samples = NDArray[np.float64]


def critical_path(plan: Plan) -> dict[str, Any]:
    """Schedule every task with its expected duration; `critical_path` is the tasks without slack."""
    low, likely, high = _estimates(plan)
    durations = (low + 4 * likely + high) / 6
    finishes, slacks = (column[:, 0] for column in _forward_and_backward(plan, durations))
    tasks: dict[str, dict[str, Any]] = {}
    for task, duration, finish, slack in zip(plan.tasks, durations[:, 0], finishes, slacks, strict=True):
        last_day = _day_of(plan, finish)
        # A task begins on the day after the evening in which it could; a milestone on the day it ends.
        first_day = _day_of(plan, math.floor(finish - duration + TOLERANCE_DAYS) + 1)
        tasks[task.id] = {
            "id": task.id,
            "name": task.name or task.id,
            "expected_days": round(float(duration), 4),
            "slack_days": round(max(0.0, float(slack)), 4),
            "critical": bool(slack <= TOLERANCE_DAYS),
            "start_date": min(first_day, last_day),
            "finish_date": last_day,
        }
    return {
        "duration_days": round(float(finishes.max()), 4),
        "start_date": _day_of(plan, 0),
        "finish_date": _day_of(plan, finishes.max()),
        "critical_path": [task_id for task_id in plan.order() if tasks[task_id]["critical"]],
        "tasks": list(tasks.values()),
        "assumptions": [
            CALENDAR,
            "each task takes its PERT mean, (optimistic + 4 likely + pessimistic) / 6",
            "a task starts as soon as the tasks it depends on are finished; people are never short",
        ],
    }


def simulate(plan: Plan, by_date: date | None = None) -> dict[str, Any]:
    """Draw each duration from its PERT-beta distribution; tell the chances of `by_date` and the deadline."""
    low, likely, high = _estimates(plan)
    spread = high - low
    scale = np.where(spread > 0, spread, 1.0)  # a task of fixed length is drawn too, and its spread of 0 wins
    alpha, beta = 1 + 4 * (likely - low) / scale, 1 + 4 * (high - likely) / scale
    draws = np.random.default_rng(SEED).beta(alpha, beta, (len(plan.tasks), plan.simulations))
    durations = low + spread * draws
    finishes, slacks = _forward_and_backward(plan, durations)
    finish = finishes.max(axis=0)
    percents = range(5, 100, 5)
    # Observed values, not interpolated ones: at least that share of the draws is done by then.
    quantiles = np.quantile(finish, np.array(percents) / 100, method="inverted_cdf")

    def probability(day: date) -> float:
        working_days = np.busday_count(plan.start_date, np.datetime64(day) + 1)
        return float(np.mean(finish <= working_days + TOLERANCE_DAYS))

    return {
        "percentiles": {
            f"P{percent}": {"days": round(float(days), 2), "date": _day_of(plan, days)}
            for percent, days in zip(percents, quantiles, strict=True)
        },
        "probabilities": {str(day): probability(day) for day in (plan.deadline, by_date) if day},
        "risks": _risks(plan, durations, finish, np.mean(slacks <= TOLERANCE_DAYS, axis=1)),
        "simulations": plan.simulations,
        "assumptions": [
            CALENDAR,
            "each duration follows a PERT-beta distribution over its three-point estimate",
            "durations are independent; a common cause of delay would widen the distribution",
        ],
    }


def _estimates(plan: Plan) -> Samples:
    days = [(task.optimistic_days, task.likely_days, task.pessimistic_days) for task in plan.tasks]
    return np.array(days).T[:, :, np.newaxis]


def _forward_and_backward(plan: Plan, durations: Samples) -> tuple[Samples, Samples]:
    """When each task can finish at the earliest, and by how much it may slip without moving the end."""
    row_of = {task.id: row for row, task in enumerate(plan.tasks)}
    order = [row_of[task_id] for task_id in plan.order()]
    before = [[row_of[needed] for needed in task.depends_on] for task in plan.tasks]
    finish = np.zeros_like(durations)
    for row in order:
        finish[row] = durations[row] + finish[before[row]].max(axis=0, initial=0.0)
    latest = np.broadcast_to(finish.max(axis=0), durations.shape).copy()
    for row in reversed(order):
        for needed in before[row]:
            np.minimum(latest[needed], latest[row] - durations[row], out=latest[needed])
    return finish, latest - finish


def _risks(plan: Plan, durations: Samples, finish: Samples, critical: Samples) -> list[dict[str, Any]]:
    risks: list[dict[str, Any]] = [
        {
            "id": task.id,
            "name": task.name or task.id,
            "criticality_index": round(float(share), 4),
            "correlation": round(float(np.corrcoef(row, finish)[0, 1]), 4),
        }
        for task, row, share in zip(plan.tasks, durations, critical, strict=True)
        # What does not vary, or is almost never waited for, is no risk.
        if share > 0.01 and min(row.std(), finish.std()) > TOLERANCE_DAYS
    ]
    return sorted(risks, key=lambda risk: -risk["correlation"])[:5]


def _day_of(plan: Plan, days: float) -> str:
    index = max(0, math.ceil(days - TOLERANCE_DAYS) - 1)  # exactly 5 is the evening of the fifth day
    return str(np.busday_offset(plan.start_date, index, roll="forward"))
