"""What the sub-agents can call; each reads its section of the input from the state."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from graphs.kit.offload import in_thread
from graphs.kit.problems import parse_input
from graphs.kit.team import found
from graphs.trials.design import size_design
from graphs.trials.interim import look
from graphs.trials.state import Design, Interim, Survival
from graphs.trials.survival import compare_survival

Runtime = ToolRuntime[Any, Any]


@tool
async def size_trial(
    runtime: Runtime,
    power: float | None = None,
    alpha: float | None = None,
    per_group: int | None = None,
    dropout: float | None = None,
) -> Command[Any]:
    """Find the sample size of the design that the caller sent, and the power of a given size.

    Args:
        runtime: Given by the graph.
        power: Another power than the design's, as a fraction.
        alpha: Another alpha than the design's.
        per_group: A size of the control group whose power is asked.
        dropout: Another share of subjects who drop out, as a fraction.
    """
    sent = _section(runtime, "design")
    if sent is None:
        return _not_sent(runtime, "design")
    asked = {"power": power, "alpha": alpha, "per_group": per_group, "dropout": dropout}
    changed = {key: value for key, value in asked.items() if value is not None and value != sent.get(key)}
    value = await in_thread(size_design, parse_input(Design, {**sent, **changed}, key="design"))
    if changed:
        told = ", ".join(f"{key} {number:g}" for key, number in changed.items())
        value["assumptions"].append(f"Taken from the question instead of the design: {told}.")
    sample = value["sample"]
    says = (
        f"{sample['total']:,} subjects ({sample['control']:,} control, {sample['treatment']:,} treatment) "
        f"give power {value['power']:.3f}; enrol {value['enrol']:,}."
    )
    if given := value["given"]:
        verdict = "enough" if given["enough"] else "not enough"
        says += (
            f" With {given['sample']['control']:,} control and {given['sample']['treatment']:,} treatment "
            f"subjects the power is {given['power']:.3f}, {verdict} for {value['target_power']:g}."
        )
    return found(runtime, "design", value, _with_assumptions(says, value))


@tool
async def compare_groups(runtime: Runtime) -> Command[Any]:
    """Compare the survival of the groups that the caller sent: Kaplan-Meier, log-rank test, hazard ratio."""
    sent = _section(runtime, "survival")
    if sent is None:
        return _not_sent(runtime, "survival")
    value = await in_thread(compare_survival, parse_input(Survival, sent, key="survival"))
    medians = "; ".join(
        f"{group['group']}: {group['events']} events in {group['subjects']}, median "
        + (f"{group['median']:g} {value['unit']}" if group["median"] is not None else "not reached")
        for group in value["groups"]
    )
    test = value["logrank"]
    says = (
        f"{medians}. Log-rank chi-square {test['chi_square']:.2f} on {test['degrees_of_freedom']} df, "
        f"{_p(test['p_value'])}: the groups {'differ' if test['differ'] else 'do not differ'} "
        f"at alpha {test['alpha']:g}."
    )
    ratio = value["hazard_ratio"]
    if ratio and ratio["ratio"] is not None and None not in ratio["interval"]:
        low, high = ratio["interval"]
        says += (
            f" Hazard of {ratio['of']} over {ratio['over']}: {ratio['ratio']:.2f} "
            f"({1 - test['alpha']:.0%} interval {low:.2f} to {high:.2f})."
        )
    return found(runtime, "survival", value, _with_assumptions(says, value))


@tool
async def judge_look(runtime: Runtime) -> Command[Any]:
    """Judge the interim look that the caller sent against its group-sequential boundary."""
    sent = _section(runtime, "interim")
    if sent is None:
        return _not_sent(runtime, "interim")
    value = await in_thread(look, parse_input(Interim, sent, key="interim"))
    says = (
        f"At information fraction {value['information_fraction']:g}, z = {value['z']:g} against the boundary "
        f"{value['boundary']:.3f}: {value['decision'].replace('_', ' ')}."
    )
    if powers := value["conditional_power"]:
        says += (
            f" Conditional power {powers['trend']:.3f} under the trend so far, "
            f"{powers['planned_effect']:.3f} under the planned effect; "
            f"final boundary {value['final_boundary']:.3f}."
        )
    return found(runtime, "interim", value, _with_assumptions(says, value))


def _section(runtime: Runtime, key: str) -> dict[str, Any] | None:
    section: dict[str, Any] | None = runtime.state.get("work", {}).get(key)
    return section


def _not_sent(runtime: Runtime, key: str) -> Command[Any]:
    message = ToolMessage(f"The caller sent no '{key}'.", tool_call_id=runtime.tool_call_id, status="error")
    return Command(update={"messages": [message]})


def _with_assumptions(says: str, value: dict[str, Any]) -> str:
    return f"{says}\nAssumptions: {' '.join(value['assumptions'])}"


def _p(value: float) -> str:
    return f"p = {value:.4f}" if value >= 0.0001 else "p < 0.0001"
