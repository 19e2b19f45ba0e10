"""Turns shares into a batch sheet: amounts that a scale can weigh and that still add up to the batch."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10
from typing import Any, Final

import numpy as np

from graphs.formulation.blend import blend_properties, blend_value, limits_of
from graphs.formulation.state import COST, Recipe

MG: Final = 1_000_000
"""Milligrams in a kg: amounts are whole milligrams, so that sums are exact."""


def batch_sheet(recipe: Recipe, shares: dict[str, float]) -> dict[str, Any]:
    """Write the batch sheet.

    Args:
        recipe: The recipe, with the size of the batch.
        shares: The share of each ingredient used, by name, from 0 to 1.

    Returns:
        JSON: `lines` (ingredient, kg, percent, cost), `total_kg`, `total_cost`, the `step_kg` it was rounded
        to, the `properties` of the rounded blend, and the limits `missed` by rounding with the value reached.
    """
    batch_mg = max(1, round(recipe.batch_kg * MG))
    step_mg = max(1, 10 ** (floor(log10(batch_mg)) - 4))
    exact = [shares.get(item.name, 0.0) * batch_mg for item in recipe.ingredients]
    room = [
        min(
            item.max_percent / 100 * batch_mg,
            batch_mg if item.available_kg is None else item.available_kg * MG,
        )
        for item in recipe.ingredients
    ]
    amounts = round_to_steps(exact, batch_mg, step_mg, room)
    rounded = np.array(amounts) / batch_mg
    return {
        "batch_kg": recipe.batch_kg,
        "step_kg": step_mg / MG,
        "lines": [
            {
                "ingredient": item.name,
                "kg": amount / MG,
                "percent": round(100 * amount / batch_mg, 4),
                "cost": round(amount / MG * item.price_per_kg, 2),
            }
            for item, amount in zip(recipe.ingredients, amounts, strict=True)
            if amount
        ],
        "total_kg": sum(amounts) / MG,
        "total_cost": round(blend_value(recipe, COST, rounded) * recipe.batch_kg, 2),
        "properties": blend_properties(recipe, rounded),
        "missed": [
            {"limit": limit.says(), "reached": round(float(limit.row @ rounded), 6)}
            for limit in limits_of(recipe)
            if limit.sign * (limit.row @ rounded - limit.value) > 1e-6 * limit.scale
        ],
    }


def round_to_steps(
    exact_mg: Sequence[float], batch_mg: int, step_mg: int, room_mg: Sequence[float]
) -> list[int]:
    """Round each amount to whole steps so that the sum is the batch (largest remainders first).

    What is less than a step goes to the largest amount. An amount exceeds its room only if none has any left.
    """
    amounts = [floor(amount / step_mg) * step_mg for amount in exact_mg]
    used = [index for index, amount in enumerate(exact_mg) if amount > 0]
    by_remainder = sorted(used, key=lambda index: amounts[index] - exact_mg[index])
    by_size = sorted(used, key=lambda index: -exact_mg[index])
    left = batch_mg - sum(amounts)
    while left > 0:
        part = min(left, step_mg)
        order = by_remainder if part == step_mg else by_size
        fitting = [index for index in order if amounts[index] + part <= room_mg[index] + 0.5]
        index = next(iter(fitting), by_size[0])
        amounts[index] += part
        left -= part
        by_remainder.remove(index)
        by_remainder.append(index)
    return amounts
