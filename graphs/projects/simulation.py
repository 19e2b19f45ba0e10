"""Monte-Carlo simulation of the finish date, and which tasks drive it."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphs.projects.schedule import TOLERANCE_DAYS, Calendar, Network, network
from graphs.projects.state import Plan

SEED: Final = 20_260
"""Fixed, so that the same plan gives the same answer on every machine and at every attempt."""
SHOWN_RISKS: Final = 5

Samples = NDArray[np.float64]


def simulate(plan: Plan, by_dates: dict[str, date], percents: list[float]) -> dict[str, Any]:
    """Draw every task's duration from its PERT-beta distribution and schedule each draw.

    Args:
        plan: The project.
        by_dates: Dates, by a name for each, whose probability of being met is asked.
        percents: Confidence levels, between 0 and 100, whose finish date is asked beside P50, P80, P95.

    Returns:
        `percentiles` ({"P50": {days, date}, …}), `distribution` (percent, days, date in steps of 5),
        `probabilities` (for each of `by_dates`), `mean_days`, `standard_deviation_days`, `risks` (the tasks
        that move the finish most), `tasks` (criticality for all), `simulations`, `seed`, `assumptions`.

    Raises:
        InputProblem: The dependencies do not form a plan.
    """
    net = network(plan)
    calendar = Calendar(plan.start_date)
    durations = _sample(plan)
    finish, critical = _schedule(plan, net, durations)

    def percentile(percent: float) -> dict[str, Any]:
        # An observed value, not an interpolated one: at least `percent` of the draws are done by then.
        days = float(np.quantile(finish, percent / 100, method="inverted_cdf"))
        return {"percent": percent, "days": round(days, 2), "date": calendar.ends_on(days).isoformat()}

    tasks = _drivers(plan, durations, finish, critical)
    risks = [task for task in tasks if task["sensitivity_index"] > 0.01][:SHOWN_RISKS]
    return {
        "percentiles": {f"P{percent:g}": percentile(percent) for percent in sorted({50, 80, 95, *percents})},
        "distribution": [percentile(percent) for percent in range(5, 100, 5)],
        "probabilities": {
            name: {
                "date": day.isoformat(),
                "probability": float(np.mean(finish <= calendar.days_until(day) + TOLERANCE_DAYS)),
            }
            for name, day in by_dates.items()
        },
        "mean_days": round(float(finish.mean()), 4),
        "standard_deviation_days": round(float(finish.std()), 4),
        "risks": risks,
        "tasks": tasks,
        "simulations": plan.simulations,
        "seed": SEED,
        "assumptions": [
            "each duration follows a PERT-beta distribution over its three-point estimate",
            "durations are independent of each other; a common cause of delay would widen the distribution",
            "estimates are working days, Monday to Friday, without public holidays; people are never short",
        ],
    }


def _sample(plan: Plan) -> Samples:
    generator = np.random.default_rng(SEED)
    durations = np.empty((len(plan.tasks), plan.simulations))
    for row, task in zip(durations, plan.tasks, strict=True):
        spread = task.pessimistic_days - task.optimistic_days
        if spread <= 0:
            row[:] = task.likely_days
            continue
        alpha = 1 + 4 * (task.likely_days - task.optimistic_days) / spread
        beta = 1 + 4 * (task.pessimistic_days - task.likely_days) / spread
        row[:] = task.optimistic_days + spread * generator.beta(alpha, beta, plan.simulations)
    return durations


def _schedule(plan: Plan, net: Network, durations: Samples) -> tuple[Samples, Samples]:
    """Finish in days of every draw, and for each task the share of draws in which it was critical."""
    row_of = {task.id: row for row, task in enumerate(plan.tasks)}
    finish = np.empty_like(durations)
    for task_id in net.order:
        row = row_of[task_id]
        before = [row_of[name] for name in net.before[task_id]]
        finish[row] = durations[row] + (finish[before].max(axis=0) if before else 0.0)
    end = finish.max(axis=0)
    late_start = np.empty_like(durations)
    critical = np.empty(len(plan.tasks))
    for task_id in reversed(net.order):
        row = row_of[task_id]
        after = [row_of[name] for name in net.after[task_id]]
        late_finish = late_start[after].min(axis=0) if after else end
        late_start[row] = late_finish - durations[row]
        critical[row] = np.mean(late_finish - finish[row] <= TOLERANCE_DAYS)
    return end, critical


def _drivers(plan: Plan, durations: Samples, finish: Samples, critical: Samples) -> list[dict[str, Any]]:
    finish_ranks, finish_deviation = _ranks(finish), float(finish.std())
    drivers = []
    for task, row, share in zip(plan.tasks, durations, critical, strict=True):
        deviation = float(row.std())
        varies = deviation > TOLERANCE_DAYS and finish_deviation > TOLERANCE_DAYS
        drivers.append(
            {
                "id": task.id,
                "name": task.label,
                "criticality_index": round(float(share), 4),
                # Spearman's: a task of fixed length cannot move the finish, so its correlation counts as 0.
                "correlation": round(float(np.corrcoef(_ranks(row), finish_ranks)[0, 1]), 4)
                if varies
                else 0.0,
                "sensitivity_index": round(float(share) * deviation / finish_deviation, 4) if varies else 0.0,
            }
        )
    return sorted(drivers, key=lambda driver: (-driver["sensitivity_index"], -driver["criticality_index"]))


def _ranks(values: Samples) -> NDArray[np.int64]:
    return np.argsort(np.argsort(values))
