"""What the printing agent's sub-agents can do. The mesh work runs in a worker process."""

from __future__ import annotations

from typing import Any, Final

from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from graphs.kit.datafolder import read_data_file
from graphs.kit.findings import found
from graphs.kit.offload import in_process
from graphs.kit.problems import parse_input
from graphs.printing.estimate import estimate, print_seconds
from graphs.printing.mesh import find_poses, inspect_mesh
from graphs.printing.state import MAX_STL_BYTES, MM_PER_UNIT, Part, Settings, State

Runtime = ToolRuntime[Any, Any]

MIN_CONTACT_PERCENT: Final = 2.0


@tool
async def inspect_part(runtime: Runtime) -> Command[Any]:
    """Check that the part is watertight; measure its volume, size, and overhangs as modelled."""
    settings = _settings(runtime.state)
    value = await in_process(inspect_mesh, *await _stl(runtime.state), settings.overhang_degrees)
    box = value["bounding_box_mm"]
    says = (
        f"The mesh is watertight: {value['volume_mm3'] / 1000:.2f} cm³, {box['x']:.1f} x {box['y']:.1f} x "
        f"{box['z']:.1f} mm, {value['triangles']:,} triangles. Built as modelled, "
        f"{value['overhang_mm2']:,.0f} mm² overhang by more than {value['overhang_degrees']:g}°, "
        f"needing up to {value['support_mm3'] / 1000:.1f} cm³ of support."
    )
    return found(runtime, "inspection", value, says)


@tool
async def orient_part(runtime: Runtime) -> Command[Any]:
    """Find the build direction with the least support and height in which the part stands by itself."""
    settings = _settings(runtime.state)
    poses = await in_process(find_poses, *await _stl(runtime.state), settings.overhang_degrees)
    # A pose on edges comes last: nothing holds it to the bed. Among equals the least turned comes first.
    poses.sort(
        key=lambda pose: (
            pose["bed_contact_percent"] < MIN_CONTACT_PERCENT,
            round(print_seconds(settings, 0, pose)),
            -pose["up"][2],
        )
    )
    best, turn = poses[0], poses[0]["rotate_degrees"]
    says = (
        f"Best orientation: rotate {turn['x']:g}° about x, then {turn['y']:g}° about y. "
        f"It is then {best['height_mm']:.1f} mm high, with {best['overhang_mm2']:,.0f} mm² overhang, "
        f"up to {best['support_mm3'] / 1000:.1f} cm³ of support, and {best['bed_contact_percent']:.0f} % of "
        "its underside on the bed."
    )
    return found(runtime, "orientation", {"best": best, "alternatives": poses[1:4]}, says)


@tool
async def estimate_print(
    runtime: Runtime, material: str | None = None, copies: int | None = None
) -> Command[Any] | str:
    """Estimate time, grams and cost in the best orientation if it is known, else as modelled.

    Give a material or a number of copies only if the user named one; else those of the settings hold.
    """
    results = runtime.state.get("result", {})
    if "inspection" not in results:
        return "The part has to be inspected first."
    named = {"material": material, "copies": copies}
    settings = _settings(runtime.state, **{key: value for key, value in named.items() if value is not None})
    pose = results["orientation"]["best"] if "orientation" in results else results["inspection"]
    value = estimate(settings, results["inspection"], pose)
    says = (
        f"Material {value['material']}, copies {value['copies']}: {value['hours']:.1f} h, "
        f"{value['grams']:.0f} g, {value['cost']:.2f} {value['currency']}. "
        f"Assumed: {'; '.join(value['assumptions'])}."
    )
    return found(runtime, "estimate", value, says)


def _settings(state: State, **named: object) -> Settings:
    return parse_input(Settings, {**state.get("settings", {}), **named}, key="settings")


async def _stl(state: State) -> tuple[bytes | str, float]:
    part = parse_input(Part, state.get("part"), key="part")
    stl = await read_data_file(part.path, max_bytes=MAX_STL_BYTES) if part.path else part.stl_base64 or ""
    return stl, MM_PER_UNIT[part.unit]
