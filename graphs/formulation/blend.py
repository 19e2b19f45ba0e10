"""The blend as a linear programme: shares that add up to one, under limits, for the best objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from graphs.formulation.state import COST, Recipe

Vector = NDArray[np.float64]

SOLVER_SECONDS: Final = 10.0
TOLERANCE: Final = 1e-7

ASSUMPTIONS: Final = [
    "properties mix in proportion to mass, and percentages are by mass",
    "nothing is lost in mixing",
    "shadow prices hold for small changes, until another limit becomes the binding one",
]


class SolverError(Exception):
    """The solver gave no answer, neither a blend nor that there is none; its own words are the message."""


@dataclass(frozen=True)
class Limit:
    """One limit: `row · shares` must be at least (min) or at most (max) `value`."""

    label: str
    sense: Literal["min", "max"]
    value: float
    row: Vector

    @property
    def sign(self) -> float:
        """What turns the limit into "at most"."""
        return 1.0 if self.sense == "max" else -1.0

    @property
    def scale(self) -> float:
        """What the row can vary by: it makes limits in different units comparable."""
        return float(np.ptp(self.row)) or abs(self.value) or 1.0

    def says(self) -> str:
        """The limit in words."""
        return f"{self.label} at {'most' if self.sense == 'max' else 'least'} {self.value:g}"


@dataclass(frozen=True)
class Solution:
    """The shares of the best blend, and what moves its objective."""

    shares: Vector
    value: float
    shadow_prices: Vector
    reduced_costs: Vector


def limits_of(recipe: Recipe) -> list[Limit]:
    """The targets and the ingredients' own limits, the latter in percent of the blend."""
    limits = []
    for name, target in recipe.targets.items():
        row = np.array(recipe.values(name))
        if target.min is not None:
            limits.append(Limit(name, "min", target.min, row))
        if target.max is not None:
            limits.append(Limit(name, "max", target.max, row))
    for index, item in enumerate(recipe.ingredients):
        row = np.zeros(len(recipe.ingredients))
        row[index] = 100.0
        if item.min_percent > 0:
            limits.append(Limit(f"{item.name} %", "min", item.min_percent, row))
        if item.max_percent < 100:
            limits.append(Limit(f"{item.name} %", "max", item.max_percent, row))
        if item.available_kg is not None and item.available_kg < recipe.batch_kg:
            stock = 100 * item.available_kg / recipe.batch_kg
            limits.append(Limit(f"{item.name} % in stock", "max", stock, row))
    return limits


def best_shares(recipe: Recipe, limits: Sequence[Limit]) -> Solution | None:
    """The best blend, or None when the limits cannot all hold.

    Raises:
        SolverError: The solver gave neither.
    """
    direction = -1.0 if recipe.objective.maximise else 1.0
    goal = direction * np.array(recipe.values(recipe.objective.of))
    size = float(np.abs(goal).max()) or 1.0
    solved = minimise(goal / size, limits, [limit.value for limit in limits])
    if solved is None:
        return None
    signs = np.array([limit.sign / limit.scale for limit in limits])
    shares = np.where(solved.x < TOLERANCE, 0.0, solved.x)
    shares /= shares.sum()
    return Solution(
        shares=shares,
        value=direction * float(goal @ shares),
        shadow_prices=direction * size * signs * solved.ineqlin.marginals if limits else np.array([]),
        reduced_costs=size * solved.lower.marginals[: len(shares)],
    )


def minimise(
    goal: Vector, limits: Sequence[Limit], values: Sequence[float], give: Sequence[bool] | None = None
) -> Any | None:
    """Solve for shares, and for how far each limit that may `give` is exceeded (relative to its scale).

    Args:
        goal: What to minimise over the shares; with `give`, over shares and then excesses.
        limits: The limits.
        values: The value of each limit, in place of its own.
        give: Which limits may be exceeded; None means none.

    Returns:
        scipy's result, or None when there is no solution.

    Raises:
        SolverError: The solver stopped for another reason.
    """
    # Imported here, in the worker thread: it takes half a second, which start-up need not wait for.
    from scipy.optimize import linprog

    count = len(goal) - (0 if give is None else sum(give))
    rows = np.array([limit.sign / limit.scale * limit.row for limit in limits]).reshape(-1, count)
    bounds = np.array([limit.sign / limit.scale * v for limit, v in zip(limits, values, strict=True)])
    if give is not None:
        rows = np.hstack([rows, -np.eye(len(limits))[:, np.flatnonzero(give)]])
    whole = np.concatenate([np.ones(count), np.zeros(len(goal) - count)])
    solved = linprog(
        goal,
        A_ub=rows if limits else None,
        b_ub=bounds if limits else None,
        A_eq=whole[None, :],
        b_eq=[1.0],
        bounds=(0, None),
        method="highs",
        options={"time_limit": SOLVER_SECONDS},
    )
    if solved.status == 2:
        return None
    if solved.status != 0:
        raise SolverError(solved.message)
    return solved


def solve(recipe: Recipe) -> dict[str, Any]:
    """Find the best blend.

    Returns:
        JSON: `feasible`; if so the `shares`, the blend's `properties`, `cost_per_kg`, the `binding` limits
        with their shadow prices, what would bring in the `unused` ingredients, and the `assumptions`.
        A shadow price is the change of the objective for a rise of the limit by one.
    """
    limits = limits_of(recipe)
    objective = recipe.objective.model_dump(exclude_none=True)
    head = {"objective": objective, "batch_kg": recipe.batch_kg, "ingredients": len(recipe.ingredients)}
    found = best_shares(recipe, limits)
    if found is None:
        return {"feasible": False, **head, "limits": [limit.says() for limit in limits]}
    binding = [
        {
            "limit": limit.says(),
            "name": limit.label,
            "sense": limit.sense,
            "value": limit.value,
            "shadow_price": round(float(price), 6) + 0.0,  # no -0.0
        }
        for limit, price in zip(limits, found.shadow_prices, strict=True)
        if abs(limit.row @ found.shares - limit.value) <= 1e-6 * limit.scale
    ]
    # Only for the cheapest blend does a reduced cost have a plain meaning.
    unused = [
        {"ingredient": item.name, "price_drop_to_enter": round(float(drop), 6)}
        for item, share, drop in zip(recipe.ingredients, found.shares, found.reduced_costs, strict=True)
        if share == 0 and recipe.objective.minimise == COST and drop > TOLERANCE
    ]
    return {
        "feasible": True,
        **head,
        "value": round(found.value, 6),
        "cost_per_kg": blend_value(recipe, COST, found.shares),
        "shares": [
            {"ingredient": item.name, "percent": round(100 * float(share), 6)}
            for item, share in zip(recipe.ingredients, found.shares, strict=True)
            if share > 0
        ],
        "properties": blend_properties(recipe, found.shares),
        "binding": binding,
        "unused": unused,
        "assumptions": ASSUMPTIONS,
    }


def blend_value(recipe: Recipe, name: str, shares: Vector) -> float:
    """One property, or the cost a kg, of a blend with these shares."""
    return round(float(np.array(recipe.values(name)) @ shares), 6)


def blend_properties(recipe: Recipe, shares: Vector) -> dict[str, float]:
    """The properties of a blend with these shares, as far as every ingredient has them."""
    known = [set(item.properties) for item in recipe.ingredients]
    return {name: blend_value(recipe, name, shares) for name in sorted(set.intersection(*known))}
