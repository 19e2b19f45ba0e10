"""Group-sequential boundaries by Lan-DeMets alpha spending.

The score process at information t, B(t) = z·√t, is a Brownian motion under the null. Its density among
trials that have not stopped is carried from look to look by numerical integration (Armitage, McPherson and
Rowe), and each boundary is solved so that the look spends its part of alpha.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from graphs.trials.state import FARTHEST_Z

NODES: Final = 400


def alpha_spent(spending: str, alpha: float, fraction: float) -> float:
    """Alpha that a spending function has used of one tail's `alpha` at an information fraction in (0, 1]."""
    if fraction >= 1:
        return alpha
    if spending == "pocock":
        return alpha * math.log(1 + (math.e - 1) * fraction)
    return float(2 * norm.sf(norm.isf(alpha / 2) / math.sqrt(fraction)))


def boundaries(fractions: list[float], *, alpha: float, sides: int, spending: str) -> list[float]:
    """Compute the upper z boundary of each look; with two sides the lower one is its mirror.

    Args:
        fractions: Information fractions, increasing, in steps of at least 0.01.
        alpha: Over all looks and both sides.
        sides: 1 or 2.
        spending: "obrien_fleming" or "pocock".
    """
    tail = alpha / sides
    found: list[float] = []
    spent = 0.0
    before = 0.0
    nodes: Any = np.zeros(1)
    mass: Any = np.ones(1)  # density times quadrature weight; all of it at 0 before the first look
    unit_nodes, unit_weights = np.polynomial.legendre.leggauss(NODES)
    for fraction in fractions:
        step = math.sqrt(fraction - before)
        target = alpha_spent(spending, tail, fraction) - spent

        def excess(z: float) -> float:
            crossed = mass @ norm.sf((z * math.sqrt(fraction) - nodes) / step)  # noqa: B023 - used at once
            return float(crossed) - target  # noqa: B023

        bound = (
            FARTHEST_Z
            if excess(FARTHEST_Z) >= 0
            else float(brentq(excess, -FARTHEST_Z, FARTHEST_Z, xtol=1e-10))
        )
        found.append(bound)
        lower = -bound if sides == 2 else -FARTHEST_Z
        middle, half = (bound + lower) / 2 * math.sqrt(fraction), (bound - lower) / 2 * math.sqrt(fraction)
        new_nodes = middle + half * unit_nodes
        kernel = norm.pdf((new_nodes[:, None] - nodes[None, :]) / step) / step
        mass = (kernel @ mass) * unit_weights * half
        nodes, spent, before = new_nodes, spent + target, fraction
    return found
