"""The formulation agent: one model that finds the blend and then writes its batch sheet."""

from __future__ import annotations

from typing import Any, Final

from langchain.agents import create_agent
from langgraph.graph.state import CompiledStateGraph

from graphs.formulation.offline import script
from graphs.formulation.state import Recipe, State, read_recipe
from graphs.formulation.tools import solve_blend, write_batch_sheet
from graphs.kit.context import Context
from graphs.kit.intake import json_intake
from graphs.kit.middleware import standard
from graphs.kit.offline import OfflineChatModel
from graphs.kit.problems import Problem

PROMPT: Final = """You formulate blends. The ingredients, targets and batch size were sent, and your tools
read them: never ask for them or copy them. Find the blend with solve_blend, with an objective or a batch
size only if the user named one; then write its sheet with write_batch_sheet. At the end answer in a few
plain sentences with the shares, the cost and what limits it, or why there is no blend and what would help.
Invent no figures."""

NO_RECIPE: Final = Problem(
    code="missing_recipe",
    message="There are no ingredients yet.",
    cure=(
        "Attach them as a JSON file, paste it, name a file of the data folder, or send its keys, like: "
        '{"ingredients": [{"name": "Soya", "price_per_kg": 0.5, "properties": {"protein": 48}}, '
        '{"name": "Maize", "price_per_kg": 0.2, "properties": {"protein": 8}}], '
        '"targets": {"protein": {"min": 20}}, "batch_kg": 1000}'
    ),
)

graph: CompiledStateGraph[Any, Context, Any, Any] = create_agent(
    OfflineChatModel(rule=script),
    [solve_blend, write_batch_sheet],
    system_prompt=PROMPT,
    middleware=[json_intake(tuple(Recipe.model_fields), read_recipe, nothing=NO_RECIPE), *standard()],
    state_schema=State,
    context_schema=Context,
    name="formulation",
)
