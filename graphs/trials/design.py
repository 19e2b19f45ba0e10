"""Sample size and power of a comparison of two means or two proportions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.proportion import power_proportions_2indep

from graphs.kit.problems import InputProblem
from graphs.trials.state import MAX_PER_GROUP, Design

SMALL_COUNT: Final = 5
_T_TEST: Final = TTestIndPower()


def size_design(design: Design) -> dict[str, Any]:
    """Find the smallest sample that reaches the power, and the power of a given sample.

    Returns:
        `sample` (control, treatment, total), its `power`, `enrol` (total with dropout allowed for),
        `effect_size` (Cohen's d, or the difference of the proportions), `given` (for `per_group`: its sample,
        its power, and whether that is enough), and `assumptions`.

    Raises:
        InputProblem: The effect is too small for any feasible sample.
    """
    power = _power_of(design)
    control = _smallest(lambda size: power(size) >= design.power)
    if control is None:
        raise InputProblem(
            "sample_too_large",
            f"More than {MAX_PER_GROUP:,} subjects a group would be needed to show this effect.",
            "Give a larger effect, or accept less power.",
        )
    needed = _sample(control, design.ratio)
    value: dict[str, Any] = {
        "kind": design.kind,
        "sample": needed,
        "power": power(control),
        "target_power": design.power,
        "alpha": design.alpha,
        "effect_size": _effect(design),
        "enrol": math.ceil(needed["total"] / (1 - design.dropout) - 1e-9),
        "given": None,
        "assumptions": _assumptions(design, needed),
    }
    if design.per_group is not None:
        given = _sample(design.per_group, design.ratio)
        value["given"] = {"sample": given, "power": power(design.per_group)}
        value["given"]["enough"] = value["given"]["power"] >= design.power
    return value


def _power_of(design: Design) -> Callable[[int], float]:
    if design.kind == "two_means":
        effect = abs(_effect(design))
        tails = "two-sided" if design.sides == 2 else "larger"

        def of_means(control: int) -> float:
            ratio = _sample(control, design.ratio)["treatment"] / control
            power = float(_T_TEST.power(effect, control, design.alpha, ratio=ratio, alternative=tails))
            # Far from the null the noncentral t has no finite value here; the power is then 1.
            return power if math.isfinite(power) else 1.0

        return of_means

    assert design.control is not None
    base = design.control
    one_sided = "larger" if _effect(design) > 0 else "smaller"
    alternative = "two-sided" if design.sides == 2 else one_sided

    def of_proportions(control: int) -> float:
        # statsmodels calls the treated group 1 and the reference group 2.
        treated = _sample(control, design.ratio)["treatment"]
        power = power_proportions_2indep(
            _effect(design),
            base,
            treated,
            ratio=control / treated,
            alpha=design.alpha,
            alternative=alternative,
            return_results=False,
        )
        return float(power)

    return of_proportions


def _smallest(enough: Callable[[int], bool]) -> int | None:
    """Find the smallest size from 2 that is enough, by doubling and then halving the step."""
    high = 2
    while not enough(high):
        if high >= MAX_PER_GROUP:
            return None
        high = min(2 * high, MAX_PER_GROUP)
    low = max(2, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def _sample(control: int, ratio: float) -> dict[str, int]:
    treatment = max(2, math.ceil(control * ratio - 1e-9))
    return {"control": control, "treatment": treatment, "total": control + treatment}


def _effect(design: Design) -> float:
    if design.kind == "two_means":
        assert design.difference is not None
        assert design.sd is not None
        return design.difference / design.sd
    assert design.treatment is not None
    assert design.control is not None
    return design.treatment - design.control


def _assumptions(design: Design, sample: dict[str, int]) -> list[str]:
    sides = "two-sided" if design.sides == 2 else "one-sided, in the direction of the effect"
    stated = [f"The test is {sides} at alpha {design.alpha:g}, and superiority is what it shows."]
    if design.kind == "two_means":
        stated += [
            f"Student's t-test; both groups have the standard deviation {design.sd:g}.",
            f"The true difference of the means is {design.difference:g}; near normal values or large groups.",
        ]
    else:
        assert design.control is not None
        assert design.treatment is not None
        stated += [
            "z-test of two proportions: pooled variance under the null, unpooled under the effect, "
            "no continuity correction.",
            f"The true proportions are {design.control:g} (control) and {design.treatment:g} (treatment).",
        ]
        expected = [
            size * share
            for size, rate in ((sample["control"], design.control), (sample["treatment"], design.treatment))
            for share in (rate, 1 - rate)
        ]
        if min(expected) < SMALL_COUNT:
            stated.append(
                f"A cell expects only {min(expected):.1f} subjects: the normal approximation is rough, "
                "so check with an exact test."
            )
    stated.append(f"Subjects are independent; control and treatment are allocated 1 : {design.ratio:g}.")
    stated.append(
        f"{design.dropout:.0%} of those enrolled drop out and give no data."
        if design.dropout
        else "Nobody drops out."
    )
    return stated
