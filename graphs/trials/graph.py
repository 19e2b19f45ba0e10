"""The trials agent: sample size and power, survival comparison, interim look."""

from __future__ import annotations

from typing import Any

from graphs.kit.problems import InputProblem, parse_input
from graphs.kit.team import SubAgent, build_team
from graphs.trials import prompts
from graphs.trials.state import MODELS, State
from graphs.trials.tools import compare_groups, judge_look, size_trial


async def intake(state: State) -> dict[str, Any]:
    """Check every section that was sent."""
    sent = {key: value for key in MODELS if (value := state.get(key)) is not None}
    if not sent:
        cure = "Send a 'design' to size, 'survival' data to compare or an 'interim' look to judge."
        raise InputProblem("missing_input", "There is no 'design', 'survival' or 'interim'.", cure)
    for key, value in sent.items():
        parse_input(MODELS[key], value, key=key)
    return {}


graph = build_team(
    State,
    name="trials",
    intake=intake,
    prompt=prompts.SUPERVISOR,
    rule=prompts.supervisor_rule,
    members=[
        SubAgent("designer", "sample size and power", prompts.DESIGNER, [size_trial], prompts.designer_rule),
        SubAgent("analyst", "compare survival", prompts.ANALYST, [compare_groups], prompts.analyst_rule),
        SubAgent("monitor", "judge an interim look", prompts.MONITOR, [judge_look], prompts.monitor_rule),
    ],
)
