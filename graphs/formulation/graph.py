"""The formulation agent: a formulator and a batcher under a supervisor."""

from __future__ import annotations

from typing import Any

from graphs.formulation import prompts
from graphs.formulation.state import State, read_recipe
from graphs.formulation.tools import solve_blend, write_batch_sheet
from graphs.kit.team import SubAgent, build_team


async def _intake(state: State) -> dict[str, Any]:
    read_recipe(state)
    return {}


graph = build_team(
    State,
    name="formulation",
    intake=_intake,
    prompt=prompts.SUPERVISOR,
    rule=prompts.supervise,
    members=[
        SubAgent(
            name="formulator",
            purpose="find the best blend within the limits and what holds it back, or why there is none",
            prompt=prompts.FORMULATOR,
            tools=[solve_blend],
            rule=prompts.formulate,
        ),
        SubAgent(
            name="batcher",
            purpose="the batch sheet of the blend: kg of each ingredient, and the cost",
            prompt=prompts.BATCHER,
            tools=[write_batch_sheet],
            rule=prompts.weigh_out,
        ),
    ],
)
