"""What the printing agent's members can do. The mesh work runs in a worker process."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from graphs.kit.datafolder import read_data_file
from graphs.kit.offload import in_process, in_thread
from graphs.kit.problems import InputProblem, parse_input
from graphs.kit.team import found
from graphs.printing import estimate as figures
from graphs.printing.mesh import inspect_mesh
from graphs.printing.orient import rank_orientations
from graphs.printing.state import MM_PER_UNIT, Part, Settings, State
from graphs.printing.stl import MAX_STL_BYTES

Runtime = ToolRuntime[Any, Any]


@tool
async def inspect_part(runtime: Runtime) -> Command[Any]:
    """Check that the part is watertight; measure its volume, size, and overhangs as modelled."""
    value = await _inspect(runtime.state)
    box = value["bounding_box_mm"]
    says = (
        f"The mesh is watertight: {value['volume_mm3'] / 1000:.2f} cm³, {box['x']:.1f} x {box['y']:.1f} x "
        f"{box['z']:.1f} mm, {value['triangles']:,} triangles. Built as modelled, "
        f"{value['overhang_mm2']:,.0f} mm² overhang by more than {value['overhang_degrees']:g}°, "
        f"needing up to {value['support_mm3'] / 1000:.1f} cm³ of support. {' '.join(value['notes'])}"
    )
    return found(runtime, "inspection", value, says.strip())


@tool
async def orient_part(runtime: Runtime) -> Command[Any]:
    """Find the build direction with the least support and height in which the part stands by itself."""
    settings = _settings(runtime.state)
    stl, mm_per_unit = await _stl(runtime.state)
    value = await in_process(
        rank_orientations,
        stl,
        mm_per_unit,
        settings.build_direction,
        settings.overhang_degrees,
        figures.seconds_per_mm3(settings) * figures.SUPPORT_DENSITY,
        figures.seconds_per_height_mm(settings),
        settings.build_volume_mm,
    )
    best, turn = value["best"], value["best"]["rotate_degrees"]
    how = (
        f"rotate {turn['x']:g}° about x, then {turn['y']:g}° about y" if any(turn.values()) else "no rotation"
    )
    says = (
        f"Best of {value['tried']} orientations: {best['direction']} ({how}), "
        f"{best['height_mm']:.1f} mm high, {best['overhang_mm2']:,.0f} mm² overhang, up to "
        f"{best['support_mm3'] / 1000:.1f} cm³ of support"
    )
    if best is not value["as_modelled"]:
        says += f" (as modelled: {value['as_modelled']['support_mm3'] / 1000:.1f} cm³)"
    says += "."
    if not best["fits_printer"]:
        size = " x ".join(f"{side:g}" for side in settings.build_volume_mm)
        says += f" It does not fit the printer ({size} mm) in any of them."
    if not best["stands"]:
        says += " It does not stand by itself: use a brim or a raft."
    return found(runtime, "orientation", value, says)


@tool
async def estimate_print(
    runtime: Runtime,
    material: str | None = None,
    infill_percent: float | None = None,
    layer_height_mm: float | None = None,
    copies: int | None = None,
) -> Command[Any]:
    """Estimate time, grams and cost, in the best orientation if it is known, else as modelled.

    Arguments that are given replace those of the settings.
    """
    wishes = {
        "material": material,
        "infill_percent": infill_percent,
        "layer_height_mm": layer_height_mm,
        "copies": copies,
    }
    settings = _settings(runtime.state, **{key: value for key, value in wishes.items() if value is not None})
    results = runtime.state.get("result", {})
    part = results.get("inspection") or await _inspect(runtime.state)
    pose = results["orientation"]["best"] if "orientation" in results else part
    value = figures.estimate(
        settings,
        volume_mm3=part["volume_mm3"],
        surface_mm2=part["surface_mm2"],
        height_mm=pose["height_mm"],
        support_mm3=pose["support_mm3"],
    )
    value["direction"] = pose.get("direction", "as modelled")
    number = "One copy" if settings.copies == 1 else f"{settings.copies} copies"
    says = (
        f"{number} in {settings.material}, {value['direction']}: {value['hours']:.1f} h, "
        f"{value['grams']:.0f} g, {value['cost']:.2f} {settings.currency}. "
        f"Assumed: {'; '.join(value['assumptions'])}."
    )
    return found(runtime, "estimate", value, says)


async def _inspect(state: State) -> dict[str, Any]:
    settings = _settings(state)
    stl, mm_per_unit = await _stl(state)
    return await in_process(
        inspect_mesh, stl, mm_per_unit, settings.build_direction, settings.overhang_degrees
    )


def _settings(state: State, **wishes: object) -> Settings:
    return parse_input(Settings, {**state.get("settings", {}), **wishes}, key="settings")


async def _stl(state: State) -> tuple[bytes, float]:
    part = parse_input(Part, state.get("part"), key="part")
    if part.path is not None:
        return await read_data_file(part.path, max_bytes=MAX_STL_BYTES), MM_PER_UNIT[part.unit]
    return await in_thread(_decode, part.stl_base64 or ""), MM_PER_UNIT[part.unit]


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: characters beyond ASCII
        raise InputProblem(
            "invalid_base64",
            "part.stl_base64 is not base64 text.",
            "Encode the bytes of the STL file as standard base64, without a data: prefix.",
        ) from error
