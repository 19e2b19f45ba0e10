"""Estimates time, material and cost of a print from the part's figures: plain arithmetic, no mesh."""

from __future__ import annotations

from math import ceil
from typing import Any, Final

from graphs.printing.state import MATERIALS, Settings

SUPPORT_DENSITY: Final = 0.15
"""How much of a support column is plastic."""

MOVING_EFFICIENCY: Final = 0.7
"""The share of the time in which the nozzle extrudes at full speed; the rest is travel and acceleration."""

LAYER_CHANGE_SECONDS: Final = 2.0
START_SECONDS: Final = 300.0
WASTE: Final = 0.05


def seconds_per_mm3(settings: Settings) -> float:
    """Seconds that one mm³ of extruded plastic takes."""
    flow = settings.line_width_mm * settings.layer_height_mm * settings.speed_mm_per_second
    return 1.0 / (flow * MOVING_EFFICIENCY)


def seconds_per_height_mm(settings: Settings) -> float:
    """Seconds of layer changes for one mm of height."""
    return LAYER_CHANGE_SECONDS / settings.layer_height_mm


def estimate(
    settings: Settings, *, volume_mm3: float, surface_mm2: float, height_mm: float, support_mm3: float
) -> dict[str, Any]:
    """Estimate the print of `settings.copies` copies of a part, one after the other.

    Args:
        settings: The printer, the material and the prices.
        volume_mm3: The part's volume.
        surface_mm2: The part's surface, which the walls follow.
        height_mm: The part's height in its build direction.
        support_mm3: The volume of the support columns.

    Returns:
        `hours`, `grams` and `cost` in all, their parts for one copy, and the `assumptions`.
    """
    density, usual_price = MATERIALS[settings.material]
    density = settings.density_g_per_cm3 or density
    price = usual_price if settings.price_per_kg is None else settings.price_per_kg
    shell_mm3 = min(volume_mm3, surface_mm2 * settings.walls * settings.line_width_mm)
    part_mm3 = shell_mm3 + (volume_mm3 - shell_mm3) * settings.infill_percent / 100
    plastic_mm3 = part_mm3 + support_mm3 * SUPPORT_DENSITY
    layers = ceil(height_mm / settings.layer_height_mm - 1e-6)
    seconds = START_SECONDS + plastic_mm3 * seconds_per_mm3(settings) + layers * LAYER_CHANGE_SECONDS
    grams = plastic_mm3 / 1000 * density
    material_cost = grams * (1 + WASTE) / 1000 * price
    machine_cost = seconds / 3600 * settings.machine_cost_per_hour
    return {
        "copies": settings.copies,
        "hours": round(settings.copies * seconds / 3600, 2),
        "grams": round(settings.copies * grams, 1),
        "cost": round(settings.copies * (material_cost + machine_cost), 2),
        "currency": settings.currency,
        "material": settings.material,
        "one_copy": {
            "minutes": round(seconds / 60, 1),
            "layers": layers,
            "part_grams": round(part_mm3 / 1000 * density, 2),
            "support_grams": round(support_mm3 * SUPPORT_DENSITY / 1000 * density, 2),
            "material_cost": round(material_cost, 3),
            "machine_cost": round(machine_cost, 3),
        },
        "assumptions": [
            f"{settings.material}: {density:g} g/cm³, {price:g} {settings.currency}/kg, {WASTE:.0%} waste",
            f"{settings.layer_height_mm:g} mm layers, {settings.walls} walls of "
            f"{settings.line_width_mm:g} mm on every surface, {settings.infill_percent:g} % infill",
            f"{settings.speed_mm_per_second:g} mm/s, of which {MOVING_EFFICIENCY:.0%} counts for travel and "
            f"acceleration, {LAYER_CHANGE_SECONDS:g} s a layer change, {START_SECONDS / 60:g} min to start",
            f"support filled to {SUPPORT_DENSITY:.0%}, in columns down to the bed (an upper bound)",
            f"machine {settings.machine_cost_per_hour:g} {settings.currency}/h; copies one after the other",
        ],
    }
