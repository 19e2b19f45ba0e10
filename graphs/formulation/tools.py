"""What the formulation agent's members can do. The solver runs in a worker thread."""

from __future__ import annotations

from typing import Any, Final

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from graphs.formulation.batch import batch_sheet
from graphs.formulation.blend import SolverError, solve
from graphs.formulation.conflict import explain
from graphs.formulation.prompts import INFEASIBLE
from graphs.formulation.state import Recipe, read_recipe
from graphs.kit.offload import in_thread
from graphs.kit.problems import InputProblem, Problem
from graphs.kit.team import found

Runtime = ToolRuntime[Any, Any]

SHOWN: Final = 5
MAX_LISTED: Final = 10


@tool
async def solve_blend(
    runtime: Runtime,
    minimise: str | None = None,
    maximise: str | None = None,
    batch_kg: float | None = None,
) -> Command[Any]:
    """Find the blend that minimises or maximises "cost" or a property within all limits.

    Give minimise, maximise or batch_kg only if the user named one; else those of the input hold.
    """
    recipe = _recipe(runtime, minimise=minimise, maximise=maximise, batch_kg=batch_kg)
    try:
        value = await in_thread(solve, recipe)
    except SolverError as error:
        raise _unsolved(error) from error
    if not value["feasible"]:
        return found(runtime, "blend", value, f"{INFEASIBLE} ({len(value['limits'])} limits).")
    return found(runtime, "blend", value, _blend_in_words(recipe, value))


@tool
async def explain_conflict(runtime: Runtime) -> Command[Any]:
    """Explain why no blend meets all limits, and by how much they would have to give."""
    recipe = _recipe(runtime, **_solved_with(runtime))
    try:
        value = await in_thread(explain, recipe)
    except SolverError as error:
        raise _unsolved(error) from error
    if not value["conflict"]:
        return found(runtime, "conflict", value, "The limits conflict by no more than rounding.")
    problem = _conflict_problem(value)
    says = f"{problem['message']} {problem['cure']}"
    messages = [ToolMessage(says, tool_call_id=runtime.tool_call_id), AIMessage(says)]
    # Not raised: an infeasible recipe is a problem of the input, but its figures belong in the result too.
    return Command(update={"result": {"conflict": value}, "problem": problem, "messages": messages})


@tool
async def write_batch_sheet(runtime: Runtime) -> Command[Any] | str:
    """Write the amounts in kg for the batch, rounded so that they still add up, with the cost."""
    blend = runtime.state.get("result", {}).get("blend", {})
    if not blend.get("feasible"):
        return "There is no blend to weigh out yet: the formulator has to find one first."
    recipe = _recipe(runtime, **_solved_with(runtime))
    shares = {line["ingredient"]: line["percent"] / 100 for line in blend["shares"]}
    value = batch_sheet(recipe, shares)
    lines = ", ".join(f"{line['ingredient']} {line['kg']:g} kg" for line in value["lines"])
    says = f"Batch of {value['total_kg']:g} kg: {lines}; it costs {value['total_cost']:,.2f}."
    if value["missed"]:
        missed = "; ".join(f"{item['limit']} ({item['reached']:.7g})" for item in value["missed"][:SHOWN])
        says += f" Rounding to {value['step_kg']:g} kg just misses: {missed}."
    return found(runtime, "batch", value, says)


def _recipe(runtime: Runtime, **wishes: Any) -> Recipe:
    goal = {key: wishes.pop(key) for key in ("minimise", "maximise") if wishes.get(key)}
    given = {key: value for key, value in wishes.items() if value is not None}
    return read_recipe(runtime.state, **({"objective": goal} if goal else {}), **given)


def _solved_with(runtime: Runtime) -> dict[str, Any]:
    """The batch size and the objective that the blend was solved for, which the question may have changed."""
    blend = runtime.state.get("result", {}).get("blend", {})
    return {key: blend[key] for key in ("objective", "batch_kg") if key in blend}


def _unsolved(error: SolverError) -> InputProblem:
    return InputProblem(
        "not_solved",
        f"The solver found neither a blend nor that there is none: {error}.",
        "Use fewer ingredients, or units in which the values are of similar size.",
    )


def _blend_in_words(recipe: Recipe, value: dict[str, Any]) -> str:
    objective = recipe.objective
    goal = f"{'lowest' if objective.minimise else 'highest'} {objective.of}"
    shares = sorted(value["shares"], key=lambda share: -share["percent"])
    blend = ", ".join(f"{share['ingredient']} {share['percent']:.4g} %" for share in shares)
    targets = ", ".join(
        f"{name} {value['properties'][name]:.4g}" for name in recipe.targets if name != "cost"
    )
    says = [
        f"The blend with the {goal} ({value['value']:.5g}; cost {value['cost_per_kg']:.5g} a kg): {blend}.",
        f"It has {targets}." if targets else "",
    ]
    prices = [item for item in value["binding"] if item["shadow_price"]]
    prices.sort(key=lambda item: -abs(item["shadow_price"]))
    if prices:
        effects = "; ".join(f"{item['limit']} ({item['shadow_price']:+.4g})" for item in prices[:SHOWN])
        says.append(
            f"What holds it back, with the change of the {objective.of} if the limit rose by 1: {effects}."
        )
    if value["unused"]:
        drops = "; ".join(
            f"{item['ingredient']} if {item['price_drop_to_enter']:.4g} cheaper a kg"
            for item in sorted(value["unused"], key=lambda item: item["price_drop_to_enter"])[:SHOWN]
        )
        says.append(f"Unused would come in: {drops}.")
    says.append(f"Assumed: {'; '.join(value['assumptions'])}.")
    return " ".join(part for part in says if part)


def _conflict_problem(value: dict[str, Any]) -> Problem:
    conflict, relaxation = value["conflict"], value["relaxation"]
    verb = "These cannot hold together" if len(conflict) > 1 else "These ingredients cannot reach"
    message = f"{INFEASIBLE}. {verb}: {_listed([item['limit'] for item in conflict])}."
    singles = [_change(item, "alone_to") for item in conflict if item["alone_to"] is not None]
    if not singles:
        message += " Other limits conflict as well."
    cure = f"The smallest change that works: {_listed([_change(item, 'to') for item in relaxation])}."
    if len(singles) > 1:
        cure += f" Or change only one: {_listed(singles)}."
    return Problem(code="infeasible_blend", message=message, cure=cure)


def _change(item: dict[str, Any], to: str) -> str:
    return f"{item['name']} {item['sense']} {item['value']:g} → {item[to]:.6g}"


def _listed(parts: list[str]) -> str:
    more = f"; and {len(parts) - MAX_LISTED} more (see result.conflict)" if len(parts) > MAX_LISTED else ""
    return "; ".join(parts[:MAX_LISTED]) + more
