"""Estimates time, material and cost of a print from the part's figures: plain arithmetic, no mesh."""

from __future__ import annotations

from math import ceil
from typing import Any, Final

from graphs.printing.state import Settings

MATERIALS: Final = {
    "PLA": (1.24, 20.0),
    "PETG": (1.27, 22.0),
    "ABS": (1.04, 22.0),
    "TPU": (1.21, 35.0),
    "PA": (1.14, 50.0),
}
"""Density in g/cm³ and a usual price a kg of each material; `settings` can name another price."""

SUPPORT_DENSITY: Final = 0.15
"""How much of a support column is plastic."""

MOVING_EFFICIENCY: Final = 0.7
"""The share of the time in which the nozzle extrudes at full speed; the rest is travel and acceleration."""

LAYER_CHANGE_SECONDS: Final = 2.0
START_SECONDS: Final = 300.0


def print_seconds(settings: Settings, part_mm3: float, pose: dict[str, Any]) -> float:
    """Seconds to print one copy with `part_mm3` of plastic in the part itself, in this pose."""
    flow = settings.line_width_mm * settings.layer_height_mm * settings.speed_mm_per_second
    extruding: float = (part_mm3 + pose["support_mm3"] * SUPPORT_DENSITY) / (flow * MOVING_EFFICIENCY)
    layers: int = ceil(pose["height_mm"] / settings.layer_height_mm - 1e-6)
    return START_SECONDS + extruding + layers * LAYER_CHANGE_SECONDS


def estimate(settings: Settings, part: dict[str, Any], pose: dict[str, Any]) -> dict[str, Any]:
    """Estimate `settings.copies` copies of a part, one after the other: hours, grams, cost, and assumptions.

    `part` has volume_mm3 and surface_mm2 (which the walls follow), `pose` has height_mm and support_mm3.
    """
    density, usual_price = MATERIALS[settings.material]
    price = usual_price if settings.price_per_kg is None else settings.price_per_kg
    shell_mm3 = min(part["volume_mm3"], part["surface_mm2"] * settings.walls * settings.line_width_mm)
    part_mm3 = shell_mm3 + (part["volume_mm3"] - shell_mm3) * settings.infill_percent / 100
    hours = settings.copies * print_seconds(settings, part_mm3, pose) / 3600
    grams = settings.copies * (part_mm3 + pose["support_mm3"] * SUPPORT_DENSITY) / 1000 * density
    return {
        "copies": settings.copies,
        "material": settings.material,
        "hours": round(hours, 2),
        "grams": round(grams, 1),
        "cost": round(grams / 1000 * price + hours * settings.machine_cost_per_hour, 2),
        "currency": settings.currency,
        "assumptions": [
            f"{settings.material}: {density:g} g/cm³, {price:g} {settings.currency}/kg",
            f"{settings.layer_height_mm:g} mm layers, {settings.walls} walls of "
            f"{settings.line_width_mm:g} mm on every surface, {settings.infill_percent:g} % infill",
            f"{settings.speed_mm_per_second:g} mm/s, of which {MOVING_EFFICIENCY:.0%} counts for travel and "
            f"acceleration, {LAYER_CHANGE_SECONDS:g} s a layer change, {START_SECONDS / 60:g} min to start",
            f"support filled to {SUPPORT_DENSITY:.0%}, in columns down to the bed (an upper bound)",
            f"machine {settings.machine_cost_per_hour:g} {settings.currency}/h; copies one after the other",
        ],
    }
