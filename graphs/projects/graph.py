"""The projects agent: one model with three tools that read the plan from the state."""

from __future__ import annotations

from typing import Any, Final

from langchain.agents import create_agent
from langgraph.graph.state import CompiledStateGraph

from graphs.kit.context import Context
from graphs.kit.intake import json_intake
from graphs.kit.middleware import standard
from graphs.kit.offline import OfflineChatModel
from graphs.kit.problems import Problem
from graphs.projects.offline import script
from graphs.projects.state import Plan, State, parse_plan
from graphs.projects.tools import draw_gantt, find_critical_path, simulate_finish

PROMPT: Final = """You help to plan projects. The plan (tasks with three-point estimates, dates) was sent,
and your tools read it: never ask for it or copy it. Call the tools that the question needs, all three if
it is open; draw after simulating, so that the chart can mark the simulated finish. Then answer in a few
plain sentences with the figures that matter and the assumptions. Invent no figures."""

NO_PLAN: Final = Problem(
    code="missing_plan",
    message="There is no plan yet.",
    cure=(
        "Attach it as a JSON file, paste it, name a file of the data folder, or send its keys, like: "
        '{"start_date": "2026-03-02", "tasks": [{"id": "dig", "optimistic_days": 2, "likely_days": 3, '
        '"pessimistic_days": 6}, {"id": "pour", "optimistic_days": 1, "likely_days": 1, '
        '"pessimistic_days": 2, "depends_on": ["dig"]}]}'
    ),
)


graph: CompiledStateGraph[Any, Context, Any, Any] = create_agent(
    OfflineChatModel(rule=script),
    [find_critical_path, simulate_finish, draw_gantt],
    system_prompt=PROMPT,
    middleware=[json_intake(tuple(Plan.model_fields), parse_plan, nothing=NO_PLAN), *standard()],
    state_schema=State,
    context_schema=Context,
    name="projects",
)
