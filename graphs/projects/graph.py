"""The projects agent: one model with three tools that read the plan from the state."""

from __future__ import annotations

from typing import Any, Final

from langchain.agents import create_agent

from graphs.kit.attachments import File
from graphs.kit.context import Context
from graphs.kit.intake import Intake, told_keys
from graphs.kit.middleware import standard
from graphs.kit.offline import OfflineChatModel
from graphs.kit.offload import in_thread
from graphs.kit.problems import InputProblem
from graphs.projects.offline import script
from graphs.projects.state import Plan, State, parse_plan
from graphs.projects.tools import draw_gantt, find_critical_path, simulate_finish

PROMPT: Final = """You help to plan projects. The plan (tasks with three-point estimates, dates) was sent, and
your tools read it: never ask for it or copy it. Call the tools that the question needs, all three if it is
open; draw after simulating, so that the chart can mark the simulated finish. Then answer in a few plain
sentences with the figures that matter and the assumptions. Invent no figures."""

KEYS: Final = tuple(Plan.model_fields)
NO_PLAN: Final = InputProblem(
    "missing_plan",
    "There is no plan yet.",
    "Attach it as a JSON file, paste it, name a file of the data folder, or send its keys, for example: "
    '{"start_date": "2026-03-02", "tasks": [{"id": "dig", "optimistic_days": 2, "likely_days": 3, '
    '"pessimistic_days": 6}, {"id": "pour", "optimistic_days": 1, "likely_days": 1, "pessimistic_days": 2, '
    '"depends_on": ["dig"]}]}',
)


async def check_input(state: dict[str, Any]) -> dict[str, Any]:
    """Refuse what is no plan (missing fields, wrong estimates, cycles) before anything is computed."""
    told = await told_keys(state, KEYS)
    if not any((state | told).get(key) for key in KEYS):
        raise NO_PLAN
    await in_thread(parse_plan, state | told)
    return told


def accept(file: File) -> dict[str, Any]:
    """Take a plan that is attached as JSON."""
    return file.json_object(KEYS)


graph = create_agent(
    OfflineChatModel(rule=script),
    [find_critical_path, simulate_finish, draw_gantt],
    system_prompt=PROMPT,
    middleware=[Intake(check_input, accept=accept), *standard()],
    state_schema=State,
    context_schema=Context,
    name="projects",
)
