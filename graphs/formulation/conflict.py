"""Explains why no blend meets all limits: which ones conflict, and by how much each would have to give."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any

import numpy as np

from graphs.formulation.blend import TOLERANCE, Limit, limits_of, minimise
from graphs.formulation.state import Recipe


def explain(recipe: Recipe) -> dict[str, Any]:
    """Explain an infeasible recipe.

    Returns:
        JSON. `conflict`: limits that cannot hold together, though any of them left out the others can; each
        with `alone_to`, the value that would do if it alone gave (None: others would have to give as well).
        `relaxation`: the changes that are smallest in sum, each relative to what its row can vary by; after
        them there is a blend.
    """
    limits = limits_of(recipe)
    size = len(recipe.ingredients)
    elastic = minimise(
        np.concatenate([np.zeros(size), np.ones(len(limits))]),
        limits,
        [limit.value for limit in limits],
        [True] * len(limits),
    )
    if elastic is None:
        raise ValueError("limits that may all give always have a blend")
    relaxation = [
        {**_described(limit), "to": _outward(limit, excess)}
        for limit, excess in zip(limits, elastic.x[size:], strict=True)
        if excess > TOLERANCE
    ]
    if not relaxation:
        return {"conflict": [], "relaxation": []}
    # By duality the limits with a price in the elastic programme already contradict each other.
    priced = np.flatnonzero(np.abs(elastic.ineqlin.marginals) > TOLERANCE)
    core = [limits[index] for index in priced]
    conflict = _irreducible(core if not _feasible(size, core) else limits, size)
    return {
        "conflict": [{**_described(limit), "alone_to": _alone(limit, limits, size)} for limit in conflict],
        "relaxation": relaxation,
    }


def _described(limit: Limit) -> dict[str, Any]:
    return {"limit": limit.says(), "name": limit.label, "sense": limit.sense, "value": limit.value}


def _feasible(size: int, limits: Sequence[Limit]) -> bool:
    return minimise(np.zeros(size), limits, [limit.value for limit in limits]) is not None


def _irreducible(limits: Sequence[Limit], size: int) -> list[Limit]:
    """Drop each limit without which the others still conflict."""
    needed = list(limits)
    for limit in limits:
        others = [other for other in needed if other is not limit]
        if not _feasible(size, others):
            needed = others
    return needed


def _alone(limit: Limit, limits: Sequence[Limit], size: int) -> float | None:
    """The value at which this limit alone would have to be for a blend to exist."""
    give = [other is limit for other in limits]
    goal = np.concatenate([np.zeros(size), [1.0]])
    solved = minimise(goal, limits, [other.value for other in limits], give)
    return None if solved is None else _outward(limit, float(solved.x[-1]))


def _outward(limit: Limit, excess: float) -> float:
    """The relaxed value, rounded to the side on which it still suffices."""
    digits = 3 - floor(log10(limit.scale))
    exact = (limit.value + limit.sign * excess * limit.scale) * 10.0**digits
    whole = ceil(exact - TOLERANCE) if limit.sense == "max" else floor(exact + TOLERANCE)
    return float(round(whole / 10.0**digits, max(digits, 0)))
