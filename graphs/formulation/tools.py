"""What the formulation agent can do. The solver runs in a worker thread."""

from __future__ import annotations

from typing import Any, Literal

from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from graphs.formulation.blend import batch_sheet, solve
from graphs.formulation.state import read_recipe
from graphs.kit.findings import found
from graphs.kit.offload import in_thread

Runtime = ToolRuntime[Any, Any]


@tool
async def solve_blend(
    runtime: Runtime,
    objective: dict[Literal["minimise", "maximise"], str] | None = None,
    batch_kg: float | None = None,
) -> Command[Any]:
    """Find the blend that minimises or maximises "cost" or a property within all limits.

    Give an objective or batch_kg only if the user named one; else those of the input hold.
    """
    named = {"objective": objective, "batch_kg": batch_kg}
    recipe = read_recipe(runtime.state, **{key: value for key, value in named.items() if value is not None})
    value = await in_thread(solve, recipe)
    [(verb, goal)] = value["objective"].items()
    shares = ", ".join(f"{share['ingredient']} {share['percent']:.4g} %" for share in value["shares"])
    properties = ", ".join(f"{name} {amount:.4g}" for name, amount in value["properties"].items())
    binding = "; ".join(f"{item['limit']} ({item['shadow_price']:+.4g})" for item in value["binding"])
    says = (
        f"The blend that {verb}s {goal}: {shares}. It has, a kg: {properties}. Held back, with the change of "
        f"{goal} if the limit rose by 1, by: {binding or 'nothing'}. "
        f"Assumed: {'; '.join(value['assumptions'])}."
    )
    return found(runtime, "blend", value, says)


@tool
async def write_batch_sheet(runtime: Runtime) -> Command[Any] | str:
    """Write the amounts in kg for the batch, rounded so that they still add up, with the cost."""
    blend = runtime.state.get("result", {}).get("blend")
    if not blend:
        return "There is no blend to weigh out yet: find one with solve_blend first."
    # The question may have changed what the input says, so the sheet follows the blend.
    recipe = read_recipe(runtime.state, objective=blend["objective"], batch_kg=blend["batch_kg"])
    value = batch_sheet(recipe, {line["ingredient"]: line["percent"] / 100 for line in blend["shares"]})
    lines = ", ".join(f"{line['ingredient']} {line['kg']:.10g} kg" for line in value["lines"])
    says = (
        f"Batch of {value['total_kg']:.10g} kg: {lines}; it costs {value['total_cost']:,.2f}. "
        f"Rounded to {value['step_kg']:g} kg, within which the limits hold."
    )
    return found(runtime, "batch", value, says)
