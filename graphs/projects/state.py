"""What the projects agent is sent, and the limits on it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from graphs.kit.problems import InputProblem, parse_input
from graphs.kit.state import AgentState

MAX_TASKS: Final = 500
MAX_SAMPLES: Final = 5_000_000
"""Tasks times simulations: 40 MB for each of the few arrays that a simulation holds at once."""
MAX_TOTAL_DAYS: Final = 36_500
EARLIEST, LATEST = date(1970, 1, 1), date(2200, 12, 31)

TaskId = Annotated[str, StringConstraints(min_length=1, max_length=80)]
Days = Annotated[float, Field(ge=0, le=3_650, allow_inf_nan=False)]


class State(AgentState, total=False):
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
            raise ValueError(
                f"task '{self.id}' needs optimistic_days ≤ likely_days ≤ pessimistic_days, but has "
                f"{self.optimistic_days:g}, {self.likely_days:g}, {self.pessimistic_days:g}"
            )
        return self

    @property
    def label(self) -> str:
        """What people call the task: its name, or its id where it has none."""
        return self.name or self.id

    @property
    def expected_days(self) -> float:
        """The PERT mean, (optimistic + 4 likely + pessimistic) / 6."""
        return (self.optimistic_days + 4 * self.likely_days + self.pessimistic_days) / 6


class Plan(BaseModel):
    """A project: its tasks, the day it starts, perhaps a deadline, and how often to simulate it."""

    tasks: list[Task] = Field(min_length=1, max_length=MAX_TASKS)
    start_date: date
    deadline: date | None = None
    simulations: int = Field(default=10_000, ge=100, le=100_000)

    @field_validator("start_date", "deadline", mode="before")
    @classmethod
    def _iso_date(cls, value: object) -> object:
        # pydantic would read a bare number as seconds since 1970, which is never what a caller means.
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        try:
            day = date.fromisoformat(str(value).strip())
        except ValueError:
            raise ValueError("write the date as YYYY-MM-DD") from None
        if not EARLIEST <= day <= LATEST:
            raise ValueError(f"the date must lie between {EARLIEST} and {LATEST}")
        return day

    @model_validator(mode="after")
    def _bounded(self) -> Plan:
        if len(self.tasks) * self.simulations > MAX_SAMPLES:
            most = MAX_SAMPLES // len(self.tasks)
            raise ValueError(
                f"{len(self.tasks)} tasks can be simulated at most {most:,} times, not {self.simulations:,}"
            )
        if sum(task.pessimistic_days for task in self.tasks) > MAX_TOTAL_DAYS:
            raise ValueError(f"the pessimistic estimates add up to more than {MAX_TOTAL_DAYS:,} working days")
        return self


def parse_plan(state: Mapping[str, Any]) -> Plan:
    """Read the plan from the state.

    Raises:
        InputProblem: There are no tasks, a field is wrong, or the deadline lies before the start.
    """
    if state.get("tasks") is None:
        raise InputProblem(
            "missing_tasks",
            "There is no 'tasks' in the input.",
            "Send 'tasks', a list of {id, name, optimistic_days, likely_days, pessimistic_days, depends_on}, "
            "and 'start_date' (YYYY-MM-DD).",
        )
    sent = {key: state[key] for key in Plan.model_fields if state.get(key) is not None}
    plan = parse_input(Plan, sent, key="input")
    if plan.deadline is not None and plan.deadline < plan.start_date:
        raise InputProblem(
            "deadline_before_start",
            f"The deadline {plan.deadline} lies before the start {plan.start_date}.",
            "Send a deadline on or after start_date.",
        )
    return plan
