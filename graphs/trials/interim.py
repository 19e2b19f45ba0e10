"""What an interim look says: stop or go on, and how likely the trial is to succeed."""

from __future__ import annotations

import math
from typing import Any

from scipy.stats import norm

from graphs.trials.boundaries import alpha_spent, boundaries
from graphs.trials.state import Interim

_NAMES = {"obrien_fleming": "O'Brien-Fleming", "pocock": "Pocock"}


def look(data: Interim) -> dict[str, Any]:
    """Judge one look against its boundary.

    Returns:
        `decision` (stop_for_efficacy, stop_for_harm, consider_futility, go_on, or at the last look
        significant or not_significant), `boundary` and `final_boundary` (z), `boundaries` of all looks,
        `alpha_spent`, `conditional_power` under the trend so far and under the effect that was planned for
        (None at the last look), and `assumptions`.
    """
    now = data.information_fraction
    fractions = [*data.earlier_fractions, now]
    planned = fractions if now == 1 else [*fractions, 1.0]
    bounds = boundaries(planned, alpha=data.alpha, sides=data.sides, spending=data.spending)
    boundary, final = bounds[len(fractions) - 1], bounds[-1]
    tail = data.alpha / data.sides
    powers: dict[str, float] | None = None
    if now < 1:
        drift = float(norm.isf(tail) + norm.ppf(data.power))
        powers = {
            "trend": conditional_power(data, data.z / math.sqrt(now), final),
            "planned_effect": conditional_power(data, drift, final),
        }
    return {
        "decision": _decide(data, boundary, powers),
        "information_fraction": now,
        "z": data.z,
        "boundary": boundary,
        "final_boundary": final,
        "boundaries": [
            {"information_fraction": fraction, "z": bound}
            for fraction, bound in zip(planned, bounds, strict=True)
        ],
        "alpha_spent": data.sides * alpha_spent(data.spending, tail, now),
        "nominal_p_value": float(norm.sf(abs(data.z)) * 2 if data.sides == 2 else norm.sf(data.z)),
        "conditional_power": powers,
        "assumptions": _assumptions(data),
    }


def conditional_power(data: Interim, drift: float, final: float) -> float:
    """Probability that z passes the last look's upper boundary (benefit is shown), given z now.

    Args:
        data: The look.
        drift: The mean of z at full information.
        final: The last look's boundary.
    """
    now = data.information_fraction
    expected = data.z * math.sqrt(now) + drift * (1 - now)
    return float(norm.sf((final - expected) / math.sqrt(1 - now)))


def _decide(data: Interim, boundary: float, powers: dict[str, float] | None) -> str:
    crossed_low = data.sides == 2 and data.z <= -boundary
    if powers is None:
        return "significant" if data.z >= boundary or crossed_low else "not_significant"
    if data.z >= boundary:
        return "stop_for_efficacy"
    if crossed_low:
        return "stop_for_harm"
    return "consider_futility" if powers["trend"] < data.futility_below else "go_on"


def _assumptions(data: Interim) -> list[str]:
    sides = "both sides, with symmetrical boundaries" if data.sides == 2 else "one side"
    stated = [
        f"Alpha {data.alpha:g} over {sides}, by Lan-DeMets spending of {_NAMES[data.spending]} type.",
        f"Looks so far: {len(data.earlier_fractions) + 1}; no earlier look crossed its boundary.",
        "z is positive where the treatment does better, and near normal with independent increments.",
    ]
    if data.information_fraction == 1:
        return stated
    return [
        *stated,
        "The final boundary and the conditional power suppose one more look, at full information.",
        "Conditional power is the probability to show benefit; harm does not count.",
        f"The planned effect is the one that a trial without looks would show with power {data.power:g}.",
        f"Futility is advice only (non-binding): conditional power by trend below {data.futility_below:g}.",
    ]
