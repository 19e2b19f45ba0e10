"""What the projects agent is sent, and the limits on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from graphs.kit.problems import InputProblem, parse_input
from graphs.kit.state import ToolAgentState

MAX_TASKS: Final = 500
MAX_SIMULATIONS: Final = 10_000  # times MAX_TASKS: 40 MB for each of the few arrays of a simulation

TaskId = Annotated[str, StringConstraints(min_length=1, max_length=80)]
Days = Annotated[float, Field(ge=0, le=3_650, allow_inf_nan=False)]
Date = Annotated[date, Field(ge=date(2000, 1, 1), le=date(2200, 12, 31))]


class State(ToolAgentState, total=False):
    """The input keys; they stay in the thread, so that a later question needs no data sent again."""

    tasks: list[dict[str, Any]]
    start_date: str
    deadline: str | None
    simulations: int | None


class Task(BaseModel):
    """One task with its three-point estimate, in working days, and the ids of the tasks it waits for."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, coerce_numbers_to_str=True)

    id: TaskId
    name: str = Field(default="", max_length=200)
    optimistic_days: Days
    likely_days: Days
    pessimistic_days: Days
    depends_on: list[TaskId] = Field(default=[], max_length=MAX_TASKS)

    @model_validator(mode="after")
    def _in_order(self) -> Task:
        if not self.optimistic_days <= self.likely_days <= self.pessimistic_days:
            raise ValueError("optimistic_days ≤ likely_days ≤ pessimistic_days does not hold")
        return self


class Plan(BaseModel):
    """A project: its tasks, the day it starts, perhaps a deadline, and how often to simulate it."""

    tasks: list[Task] = Field(min_length=1, max_length=MAX_TASKS)
    start_date: Date
    deadline: Date | None = None
    simulations: int = Field(default=MAX_SIMULATIONS, ge=100, le=MAX_SIMULATIONS)

    @model_validator(mode="after")
    def _is_a_plan(self) -> Plan:
        counts = Counter(task.id for task in self.tasks)
        for task in self.tasks:
            if counts[task.id] > 1:
                raise ValueError(f"{counts[task.id]} tasks have the id '{task.id}'; give each one of its own")
            for needed in task.depends_on:
                if needed not in counts:
                    raise ValueError(f"task '{task.id}' depends on '{needed}', which is no task")
        if self.deadline is not None and self.deadline < self.start_date:
            raise ValueError(f"the deadline {self.deadline} lies before the start {self.start_date}")
        try:
            self.order()
        except CycleError as error:
            raise InputProblem(
                "cyclic_tasks",
                f"These tasks wait for each other: {' → '.join(error.args[1])}.",
                "Remove one of these dependencies; each arrow means 'must finish before'.",
            ) from error
        return self

    def order(self) -> list[str]:
        """The ids of the tasks, each after those that it depends on."""
        return list(TopologicalSorter({task.id: task.depends_on for task in self.tasks}).static_order())


def parse_plan(state: Mapping[str, Any]) -> Plan:
    """Read the plan from the state; raises InputProblem when it is none."""
    sent = {key: state[key] for key in Plan.model_fields if state.get(key) is not None}
    return parse_input(Plan, sent, key="input")
