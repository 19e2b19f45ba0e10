"""Sample size and power of a comparison of two means or two proportions, in groups of equal size."""

from __future__ import annotations

import math
from typing import Any

from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.proportion import power_proportions_2indep

from graphs.kit.problems import InputProblem
from graphs.trials.state import MAX_PER_GROUP, Design, MeansDesign, ProportionsDesign


def size_design(design: Design) -> dict[str, Any]:
    """Find the smallest sample that has the power, or raise InputProblem; `enrol` allows for dropout."""
    plan = design.root
    size = _smallest(plan)
    power, enrol = power_of(plan, size), math.ceil(2 * size / (1 - plan.dropout) - 1e-9)
    summary = f"{size:,} subjects in each of two groups have power {power:.3f}; enrol {enrol:,} in all."
    given = power_of(plan, plan.per_group) if plan.per_group else None
    if given is not None:
        summary += f" With {plan.per_group:,} in each the power is {given:.3f}."
    found = {"per_group": size, "total": 2 * size, "power": power, "enrol": enrol, "given_power": given}
    return {**found, "summary": summary, "assumptions": _assumptions(plan)}


def _effect(plan: MeansDesign | ProportionsDesign) -> float:
    return plan.difference / plan.sd if isinstance(plan, MeansDesign) else plan.treatment - plan.control


def power_of(plan: MeansDesign | ProportionsDesign, size: int) -> float:
    """Compute the power with this many subjects in each group."""
    effect = _effect(plan)
    if isinstance(plan, MeansDesign):
        t_test, effect = TTestIndPower(), min(abs(effect), 1e5)  # beyond, the power is 1 at any size
        both = float(t_test.power(effect, size, plan.alpha))
        # The far tail may be NaN where it is negligible, and the near one where it is 1.
        near = float(t_test.power(effect, size, plan.alpha / 2, alternative="larger"))
        return next(power for power in (both, near, 1.0) if math.isfinite(power))
    return float(power_proportions_2indep(effect, plan.control, size, alpha=plan.alpha).power)


def _smallest(plan: MeansDesign | ProportionsDesign) -> int:
    """Find the smallest group that has the power, by doubling and then halving the step."""
    low = high = 2
    while power_of(plan, high) < plan.power:
        low, high = high, 2 * high
        if high > MAX_PER_GROUP:
            message = f"An effect of {_effect(plan):g} takes more than {MAX_PER_GROUP:,} subjects a group."
            raise InputProblem("sample_too_large", message, "Give a larger effect, or accept less power.")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(plan, middle) >= plan.power else (middle + 1, high)
    return high


def _assumptions(plan: MeansDesign | ProportionsDesign) -> list[str]:
    if isinstance(plan, MeansDesign):
        test = "Student's t-test on near normal values (or in large groups)"
        truth = f"difference is {plan.difference:g}, with standard deviation {plan.sd:g} in both groups"
    else:
        test = "z-test of proportions, without continuity correction, five or more expected in each cell"
        truth = f"proportions are {plan.control:g} (control) and {plan.treatment:g} (treatment)"
    return [
        f"{test}; two-sided at alpha {plan.alpha:g}, for power {plan.power:g}.",
        f"The true {truth}.",
        "Subjects are independent, and the groups of equal size.",
        f"{plan.dropout:.0%} of those enrolled drop out and give no data.",
    ]
