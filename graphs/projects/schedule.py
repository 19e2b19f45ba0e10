"""The task network and its critical path.

Times are offsets in working days from the start of the first working day; `Calendar` turns them into dates.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from dataclasses import dataclass
from datetime import date
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import numpy as np

from graphs.kit.problems import InputProblem
from graphs.projects.state import Plan

TOLERANCE_DAYS: Final = 1e-6
"""Less than a tenth of a second: sums of fractions that are equal on paper may differ by this."""


@dataclass(frozen=True)
class Calendar:
    """Monday to Friday from the first working day on or after the project's start."""

    start: date

    def day_of(self, index: int) -> date:
        """The date of the working day with this index, 0 being the first."""
        return date.fromisoformat(str(np.busday_offset(self.start, index, roll="forward")))

    def starts_on(self, offset_days: float) -> date:
        """The day on which work that begins at this offset begins."""
        return self.day_of(math.floor(offset_days + TOLERANCE_DAYS))

    def ends_on(self, offset_days: float) -> date:
        """The day in which this offset falls; an offset of exactly 5 is the evening of the fifth day."""
        return self.day_of(max(0, math.ceil(offset_days - TOLERANCE_DAYS) - 1))

    def days_until(self, day: date) -> int:
        """How many working days there are up to and including `day`."""
        return int(np.busday_count(self.start, np.datetime64(day) + 1))


@dataclass(frozen=True)
class Network:
    """Task ids in an order that respects every dependency, and each task's neighbours."""

    order: list[str]
    before: dict[str, list[str]]
    after: dict[str, list[str]]


def network(plan: Plan) -> Network:
    """Connect the tasks.

    Raises:
        InputProblem: An id is used twice, a dependency does not exist, or tasks wait for each other.
    """
    ids = [task.id for task in plan.tasks]
    twice = [task_id for task_id, count in Counter(ids).items() if count > 1]
    if twice:
        raise InputProblem(
            "duplicate_task",
            f"More than one task has the id '{twice[0]}'.",
            "Give each task an id of its own.",
        )
    before = {task.id: list(dict.fromkeys(task.depends_on)) for task in plan.tasks}
    after: dict[str, list[str]] = {task_id: [] for task_id in ids}
    for task_id, needs in before.items():
        for needed in needs:
            if needed not in after:
                close = difflib.get_close_matches(needed, ids, n=1)
                hint = f" Did you mean '{close[0]}'?" if close else ""
                raise InputProblem(
                    "unknown_dependency",
                    f"Task '{task_id}' depends on '{needed}', which is no task.{hint}",
                    "Correct the id in depends_on, or add that task.",
                )
            after[needed].append(task_id)
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise _cycle_problem(error.args[1][:-1], ids) from None
    return Network(order, before, after)


def _cycle_problem(cycle: list[str], ids: list[str]) -> InputProblem:
    # Begin with the task that the caller listed first, so that the same plan gives the same sentence.
    first = cycle.index(min(cycle, key=ids.index))
    path = " → ".join([*cycle[first:], *cycle[:first], cycle[first]])
    return InputProblem(
        "cyclic_tasks",
        f"These tasks wait for each other: {path}.",
        "Remove one of these dependencies; each arrow means 'must finish before'.",
    )


def critical_path(plan: Plan) -> dict[str, Any]:
    """Schedule every task with its expected (PERT mean) duration.

    Returns:
        `duration_days`, `finish_date`, `critical_path` (ids in order), `standard_deviation_days` along it,
        `tasks` (each with its dates, offsets in working days and slack) and `assumptions`.

    Raises:
        InputProblem: The dependencies do not form a plan, see `network`.
    """
    net = network(plan)
    calendar = Calendar(plan.start_date)
    by_id = {task.id: task for task in plan.tasks}
    early_start: dict[str, float] = {}
    early_finish: dict[str, float] = {}
    for task_id in net.order:
        early_start[task_id] = max((early_finish[before] for before in net.before[task_id]), default=0.0)
        early_finish[task_id] = early_start[task_id] + by_id[task_id].expected_days
    duration = max(early_finish.values())
    late_start: dict[str, float] = {}
    for task_id in reversed(net.order):
        late_finish = min((late_start[after] for after in net.after[task_id]), default=duration)
        late_start[task_id] = late_finish - by_id[task_id].expected_days

    path = _one_path(net, early_start, early_finish, duration)
    tasks = []
    for task in plan.tasks:
        slack = late_start[task.id] - early_start[task.id]
        ends_on = calendar.ends_on(early_finish[task.id])
        # A milestone lasts no time: it begins in the moment in which it ends.
        starts_on = calendar.starts_on(early_start[task.id]) if task.expected_days > 0 else ends_on
        tasks.append(
            {
                "id": task.id,
                "name": task.label,
                "expected_days": round(task.expected_days, 4),
                "start_day": round(early_start[task.id], 4),
                "finish_day": round(early_finish[task.id], 4),
                "slack_days": round(max(0.0, slack), 4),
                "critical": slack <= TOLERANCE_DAYS,
                "start_date": starts_on.isoformat(),
                "finish_date": ends_on.isoformat(),
            }
        )
    variance = sum(((by_id[i].pessimistic_days - by_id[i].optimistic_days) / 6) ** 2 for i in path)
    return {
        "duration_days": round(duration, 4),
        "start_date": calendar.day_of(0).isoformat(),
        "finish_date": calendar.ends_on(duration).isoformat(),
        "critical_path": path,
        "standard_deviation_days": round(math.sqrt(variance), 4),
        "tasks": tasks,
        "assumptions": [
            "estimates are working days, Monday to Friday, without public holidays",
            "each task takes its PERT mean, (optimistic + 4 likely + pessimistic) / 6",
            "a task starts as soon as the tasks it depends on are finished; people are never short",
        ],
    }


def _one_path(net: Network, start: dict[str, float], finish: dict[str, float], duration: float) -> list[str]:
    # Back from the end, always to a predecessor that leaves no gap. Where several paths are critical, `tasks`
    # still marks every task; one chain is what people ask for.
    last = (task_id for task_id in net.order if not net.after[task_id])
    path = [next(task_id for task_id in last if finish[task_id] >= duration - TOLERANCE_DAYS)]
    while before := net.before[path[0]]:
        path.insert(0, next(b for b in before if finish[b] >= start[path[0]] - TOLERANCE_DAYS))
    return path
