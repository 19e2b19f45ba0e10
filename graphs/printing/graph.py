"""The printing agent: an inspector, an orienter and an estimator under a supervisor."""

from __future__ import annotations

from typing import Any

from graphs.kit.problems import parse_input
from graphs.kit.team import SubAgent, build_team
from graphs.printing import prompts
from graphs.printing.state import Part, Settings, State
from graphs.printing.tools import estimate_print, inspect_part, orient_part


async def _intake(state: State) -> dict[str, Any]:
    parse_input(Part, state.get("part"), key="part")
    parse_input(Settings, state.get("settings", {}), key="settings")
    return {}


graph = build_team(
    State,
    name="printing",
    intake=_intake,
    prompt=prompts.SUPERVISOR,
    rule=prompts.supervise,
    members=[
        SubAgent(
            name="inspector",
            purpose="is the mesh watertight, how large is it, where does it overhang",
            prompt=prompts.INSPECTOR,
            tools=[inspect_part],
            rule=prompts.inspect,
        ),
        SubAgent(
            name="orienter",
            purpose="how to lay the part on the bed for the least support",
            prompt=prompts.ORIENTER,
            tools=[orient_part],
            rule=prompts.orient,
        ),
        SubAgent(
            name="estimator",
            purpose="time, material and cost of the print",
            prompt=prompts.ESTIMATOR,
            tools=[estimate_print],
            rule=prompts.estimate,
        ),
    ],
)
