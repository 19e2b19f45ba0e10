"""The blend as a linear programme: shares that add up to one, under limits, for the best objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from graphs.formulation.state import COST, Recipe
from graphs.kit.problems import InputProblem

Vector = NDArray[np.float64]

SOLVER_SECONDS: Final = 10.0
TOLERANCE: Final = 1e-7

ASSUMPTIONS: Final = [
    "properties mix in proportion to mass, and percentages are by mass",
    "nothing is lost in mixing",
    "shadow prices hold for small changes, until another limit becomes the binding one",
]


@dataclass(frozen=True, eq=False)
class Limit:
    """One limit: `row · shares` must be at least (min) or at most (max) `value`."""

    name: str
    sense: Literal["min", "max"]
    value: float
    row: Vector

    @property
    def scale(self) -> float:
        """Makes limits in different units comparable, and negative turns "at least" into "at most"."""
        size = float(np.ptp(self.row)) or abs(self.value) or 1.0
        return size if self.sense == "max" else -size

    def says(self) -> str:
        """The limit in words."""
        return f"{self.name} at {'most' if self.sense == 'max' else 'least'} {self.value:g}"

    def change(self, excess: float) -> str:
        """How to give by `excess` times the scale, in words; rounded to the side on which it suffices."""
        digits = 3 - floor(log10(abs(self.scale)))
        exact = (self.value + excess * self.scale) * 10.0**digits
        whole = ceil(exact - TOLERANCE) if self.sense == "max" else floor(exact + TOLERANCE)
        return f"{self.name} {self.sense} {self.value:g} → {whole / 10.0**digits:.10g}"


def limits_of(recipe: Recipe) -> list[Limit]:
    """The targets and the ingredients' own limits, the latter in percent of the blend."""
    bounds: list[tuple[str, float | None, float | None, Vector]] = [
        (name, target.min, target.max, np.array(recipe.values(name)))
        for name, target in recipe.targets.items()
    ]
    for item, row in zip(recipe.ingredients, 100 * np.eye(len(recipe.ingredients)), strict=True):
        stock = 100 if item.available_kg is None else 100 * item.available_kg / recipe.batch_kg
        own = (f"{item.name} %", item.min_percent, item.max_percent), (f"{item.name} % in stock", 0, stock)
        bounds += [(name, low or None, high if high < 100 else None, row) for name, low, high in own]
    limits = []
    for name, low, high, row in bounds:
        if low is not None:
            limits.append(Limit(name, "min", low, row))
        if high is not None:
            limits.append(Limit(name, "max", high, row))
    return limits


def solve(recipe: Recipe) -> dict[str, Any]:
    """Find the best blend: its `shares`, `properties`, and the `binding` limits with their shadow prices.

    A shadow price is the change of the objective if the limit rose by one.

    Raises:
        InputProblem: No blend meets the limits (the problem explains why), or the solver gave no answer.
    """
    [(verb, goal)] = recipe.objective.items()
    limits = limits_of(recipe)
    costs = np.array(recipe.values(goal))
    unit = float(np.abs(costs).max() or 1.0) * (1 if verb == "minimise" else -1)
    solved = _minimise(costs / unit, limits)
    if solved is None:
        raise _infeasible(limits, len(costs))
    shares = np.where(solved.x < TOLERANCE, 0.0, solved.x)
    shares /= shares.sum()
    known = set.intersection(*(set(item.properties) for item in recipe.ingredients))
    return {
        "objective": recipe.objective,
        "batch_kg": recipe.batch_kg,
        "shares": [
            {"ingredient": item.name, "percent": _rounded(100 * share)}
            for item, share in zip(recipe.ingredients, shares, strict=True)
            if share > 0
        ],
        "properties": {name: _rounded(shares @ recipe.values(name)) for name in [COST, *sorted(known)]},
        "binding": [
            {"limit": limit.says(), "shadow_price": _rounded(unit / limit.scale * marginal)}
            for limit, marginal in zip(limits, solved.ineqlin.marginals, strict=True)
            if abs((limit.row @ shares - limit.value) / limit.scale) <= 10 * TOLERANCE
        ],
        "assumptions": ASSUMPTIONS,
    }


def _minimise(costs: Vector, limits: Sequence[Limit], give: Sequence[int] = ()) -> Any | None:
    """Find the shares with the least cost, or, with `give`, the least sum of the excesses of those limits.

    The result is scipy's, its x being the shares and then the excesses; None when there is no solution.
    """
    # Imported here, in the worker thread: it takes half a second, which start-up need not wait for.
    from scipy.optimize import linprog

    count = len(costs)
    rows = np.zeros((len(limits), count + len(give)))
    for index, limit in enumerate(limits):
        rows[index, :count] = limit.row / limit.scale
    rows[list(give), range(count, count + len(give))] = -1.0
    solved = linprog(
        [0.0] * count + [1.0] * len(give) if give else costs,
        A_ub=rows,
        b_ub=[limit.value / limit.scale for limit in limits],
        A_eq=[[1.0] * count + [0.0] * len(give)],
        b_eq=[1.0],
        method="highs",
        options={"time_limit": SOLVER_SECONDS},
    )
    if solved.status not in (0, 2):
        raise InputProblem(
            "not_solved",
            f"The solver found neither a blend nor that there is none: {solved.message}.",
            "Use fewer ingredients, or units in which the values are of similar size.",
        )
    return solved if solved.status == 0 else None


def _infeasible(limits: Sequence[Limit], count: int) -> InputProblem:
    """Explain which limits no blend of `count` ingredients can meet, by letting all of them give."""
    elastic = _minimise(np.zeros(count), limits, range(len(limits)))
    assert elastic is not None, "limits that may all give always have a blend"
    gaps = zip(limits, elastic.x[count:], strict=True)
    smallest = [limit.change(gap) for limit, gap in gaps if gap > TOLERANCE]
    # By duality the limits with a price in the elastic programme conflict; drop those not needed for it.
    prices = np.abs(elastic.ineqlin.marginals)
    conflict = [limit for limit, price in zip(limits, prices, strict=True) if price > TOLERANCE]
    for limit in list(conflict):
        others = [other for other in conflict if other is not limit]
        if _minimise(np.zeros(count), others) is None:
            conflict = others
    alone = [
        limit.change(single.x[-1])
        for limit in conflict
        if (single := _minimise(np.zeros(count), limits, [limits.index(limit)])) is not None
    ]
    all_of = "; ".join(limit.says() for limit in conflict or limits)
    return InputProblem(
        "infeasible_blend",
        f"No blend of these ingredients meets all of: {all_of}.",
        f"The smallest change that works: {'; '.join(smallest) or 'loosen any of them slightly'}. "
        f"Or change only one: {'; '.join(alone) or 'none alone suffices'}.",
    )


def batch_sheet(recipe: Recipe, shares: dict[str, float]) -> dict[str, Any]:
    """Weigh the blend out (`shares` by name, from 0 to 1) in amounts that add up to the batch.

    They are rounded to `step_kg`: about five digits of the batch, as a scale shows them.
    """
    digits = 4 - floor(log10(recipe.batch_kg))
    used = [item for item in recipe.ingredients if item.name in shares]
    # Rounding the running total, not each amount, keeps the sum exact; the last takes the batch's odd end.
    totals = np.cumsum([shares[item.name] * recipe.batch_kg for item in used]).round(digits)
    totals = np.append(np.minimum(totals[:-1], recipe.batch_kg), recipe.batch_kg)
    amounts = np.diff(totals, prepend=0.0).round(9).tolist()
    costs = [kg * item.price_per_kg for item, kg in zip(used, amounts, strict=True)]
    return {
        "lines": [
            {"ingredient": item.name, "kg": kg, "cost": round(cost, 2)}
            for item, kg, cost in zip(used, amounts, costs, strict=True)
            if kg > 0
        ],
        "total_kg": recipe.batch_kg,
        "total_cost": round(sum(costs), 2),
        "step_kg": 10.0**-digits,
    }


def _rounded(value: Any) -> float:
    return round(float(value), 6) + 0.0  # no -0.0
