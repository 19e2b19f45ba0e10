"""The projects agent: a supervisor with a scheduler, a risk analyst and a charter."""

from __future__ import annotations

from typing import Any

from graphs.kit.offload import in_thread
from graphs.kit.team import SubAgent, build_team
from graphs.projects import prompts
from graphs.projects.state import State, parse_plan
from graphs.projects.tools import draw_gantt, find_critical_path, simulate_finish


async def check_input(state: State) -> dict[str, Any]:
    """Refuse what is no plan (missing fields, wrong estimates, cycles) before anything is computed."""
    await in_thread(parse_plan, state)
    return {}


graph = build_team(
    State,
    name="projects",
    intake=check_input,
    prompt=prompts.SUPERVISOR,
    rule=prompts.supervise,
    members=[
        SubAgent(
            name="scheduler",
            purpose="the critical path, each task's dates and slack",
            prompt=prompts.SCHEDULER,
            tools=[find_critical_path],
            rule=prompts.call("find_critical_path"),
        ),
        SubAgent(
            name="risk_analyst",
            purpose="simulated finish dates, the probability to meet a date, and the risks that matter",
            prompt=prompts.RISK_ANALYST,
            tools=[simulate_finish],
            rule=prompts.analyse_risk,
        ),
        SubAgent(
            name="charter",
            purpose="a Gantt chart as a Vega-Lite specification",
            prompt=prompts.CHARTER,
            tools=[draw_gantt],
            rule=prompts.call("draw_gantt"),
        ),
    ],
)
