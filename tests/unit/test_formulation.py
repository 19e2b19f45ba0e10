"""The formulation agent with the offline model: textbook blends, conflicts, batch sheets, and bad input."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from graphs.formulation.batch import round_to_steps
from graphs.formulation.graph import graph
from graphs.formulation.prompts import wishes

pytestmark = pytest.mark.usefixtures("no_blocking")

EXAMPLE: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "graphs/examples/formulation.json").read_text()
)

SOYA = {"name": "Soya", "price_per_kg": 0.5, "properties": {"protein": 48}}
MAIZE = {"name": "Maize", "price_per_kg": 0.2, "properties": {"protein": 8}}
TWO: dict[str, Any] = {"ingredients": [SOYA, MAIZE], "targets": {"protein": {"min": 20}}, "batch_kg": 1000}


async def ask(text: str = "", **keys: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}] if text else []
    state: dict[str, Any] = await graph.ainvoke({"messages": messages, **keys})
    return state


def shares(state: dict[str, Any]) -> dict[str, float]:
    return {line["ingredient"]: line["percent"] for line in state["result"]["blend"]["shares"]}


async def test_two_ingredients_against_the_closed_form() -> None:
    state = await ask("The cheapest feed, please.", **TWO)

    # 48 s + 8 (1 - s) = 20, so s = 0.3; a point of protein costs the price gap over the protein gap.
    blend = state["result"]["blend"]
    assert shares(state) == pytest.approx({"Soya": 30, "Maize": 70})
    assert blend["cost_per_kg"] == pytest.approx(0.3 * 0.5 + 0.7 * 0.2)
    assert [item["limit"] for item in blend["binding"]] == ["protein at least 20"]
    assert blend["binding"][0]["shadow_price"] == pytest.approx(0.3 / 40)
    assert [line["kg"] for line in state["result"]["batch"]["lines"]] == [300, 700]
    assert state["result"]["batch"]["total_cost"] == 290
    assert "Soya 300 kg, Maize 700 kg; it costs 290.00" in state["messages"][-1].text
    json.dumps(state["result"], allow_nan=False)


async def test_the_known_cat_food_problem() -> None:
    """A well-known exercise: 60 % beef and 40 % gel, 5.20 a kg."""
    rows = {
        "Chicken": (13, 10, 8, 0.1, 0.2),
        "Beef": (8, 20, 10, 0.5, 0.5),
        "Mutton": (10, 15, 11, 0.3, 0.7),
        "Rice": (2, 0, 1, 10, 0.2),
        "Wheat bran": (5, 4, 1, 15, 0.8),
        "Gel": (1, 0, 0, 0, 0),
    }
    names = ("protein", "fat", "fibre", "salt")
    ingredients = [
        {"name": name, "price_per_kg": price, "properties": dict(zip(names, values, strict=True))}
        for name, (price, *values) in rows.items()
    ]
    targets = {"protein": {"min": 8}, "fat": {"min": 6}, "fibre": {"max": 2}, "salt": {"max": 0.4}}
    state = await ask(ingredients=ingredients, targets=targets)

    blend = state["result"]["blend"]
    assert shares(state) == pytest.approx({"Beef": 60, "Gel": 40})
    assert blend["value"] == pytest.approx(5.2)
    assert [(item["limit"], item["shadow_price"]) for item in blend["binding"]] == [("fat at least 6", 0.7)]
    # What 1 kg of mutton brings is worth its 11 points of fat and the gel it replaces: 0.7 · 11 + 1 = 8.7.
    drops = {item["ingredient"]: item["price_drop_to_enter"] for item in blend["unused"]}
    assert drops["Mutton"] == pytest.approx(10 - 8.7)


async def test_shadow_prices_are_what_a_changed_limit_really_does() -> None:
    state = await ask(**{key: value for key, value in EXAMPLE.items() if key != "messages"})

    step = 0.001
    base = state["result"]["blend"]
    for binding in [item for item in base["binding"] if item["name"] in EXAMPLE["targets"]]:
        changed = copy.deepcopy({key: value for key, value in EXAMPLE.items() if key != "messages"})
        changed["targets"][binding["name"]][binding["sense"]] += step
        after = (await ask(**changed))["result"]["blend"]["value"]
        assert after - base["value"] == pytest.approx(binding["shadow_price"] * step, abs=2e-6)
    assert sum(item["shadow_price"] > 0.005 for item in base["binding"]) >= 2


async def test_the_question_sets_objective_and_batch() -> None:
    limited = {**SOYA, "available_kg": 50}
    state = await ask(
        "Maximise the Protein in a batch of 0.5 t.", **{**TWO, "ingredients": [limited, MAIZE], "targets": {}}
    )

    blend = state["result"]["blend"]
    assert blend["objective"] == {"maximise": "protein"}
    assert shares(state) == pytest.approx({"Soya": 10, "Maize": 90}), "50 kg are a tenth of this batch"
    assert blend["value"] == pytest.approx(12)
    # A percent more soya would bring 0.4 points more protein.
    assert blend["binding"][0]["shadow_price"] == pytest.approx(0.4)
    assert [line["kg"] for line in state["result"]["batch"]["lines"]] == [50, 450]


async def test_the_cost_can_be_a_limit() -> None:
    state = await ask(**{**TWO, "targets": {"cost": {"max": 0.26}}, "objective": {"maximize": "protein"}})

    assert shares(state) == pytest.approx({"Soya": 20, "Maize": 80})
    assert state["result"]["blend"]["binding"][0]["shadow_price"] == pytest.approx(40 / 0.3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("protein at least 20 and at most 5 % fibre; what does it cost?", {}),
        ("lowest possible price for 1,500 kg", {"minimise": "cost", "batch_kg": 1500}),
        ("a 2.5 t batch with the highest lysine", {"maximise": "lysine", "batch_kg": 2500}),
    ],
)
async def test_wishes_in_a_question(text: str, expected: dict[str, Any]) -> None:
    assert wishes(text) == expected


async def test_an_infeasible_blend_names_the_conflict_and_ways_out() -> None:
    recipe: dict[str, Any] = {
        "ingredients": [{**SOYA, "max_percent": 30}, MAIZE],
        "targets": {"protein": {"min": 25}, "cost": {"max": 10}},
    }
    state = await ask("Cheapest?", **recipe)

    problem, conflict = state["problem"], state["result"]["conflict"]
    assert problem["code"] == "infeasible_blend"
    assert "protein at least 25; Soya % at most 30" in problem["message"]
    assert "cost" not in problem["message"], "the generous price limit has no part in it"
    assert state["messages"][-1].text == f"{problem['message']} {problem['cure']}"
    # 30 % soya gives 20 points of protein; 25 points need 42.5 %.
    assert {item["name"]: item["alone_to"] for item in conflict["conflict"]} == {
        "protein": 20,
        "Soya %": 42.5,
    }
    assert "batch" not in state["result"]

    recipe["targets"]["protein"]["min"] = 20
    assert (await ask(**recipe))["problem"] is None


async def test_relaxing_as_told_makes_several_conflicts_feasible() -> None:
    recipe = copy.deepcopy({key: value for key, value in EXAMPLE.items() if key != "messages"})
    recipe["targets"] |= {"protein": {"min": 24}, "fibre": {"max": 3}, "energy": {"min": 14.5}}
    state = await ask(**recipe)

    relaxation = state["result"]["conflict"]["relaxation"]
    assert len(relaxation) > 1
    for item in relaxation:
        recipe["targets"][item["name"]][item["sense"]] = item["to"]
    assert (await ask(**recipe))["problem"] is None


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ([{"min_percent": 60}, {"min_percent": 50}], "Soya % at least 60; Maize % at least 50"),
        ([{"max_percent": 40}, {"available_kg": 500}], "Soya % at most 40; Maize % in stock at most 50"),
    ],
)
async def test_limits_that_do_not_add_up_to_the_whole(limits: list[dict[str, float]], words: str) -> None:
    ingredients = [{**item, **limit} for item, limit in zip([SOYA, MAIZE], limits, strict=True)]
    state = await ask(ingredients=ingredients, batch_kg=1000)

    assert state["problem"]["code"] == "infeasible_blend"
    assert words in state["problem"]["message"]


@pytest.mark.parametrize(
    ("exact", "batch", "step", "room", "expected"),
    [
        ([100 / 3] * 3, 100, 1, [100] * 3, [34, 33, 33]),
        ([59.99999, 40.00001], 100, 1, [100] * 2, [60, 40]),
        ([66.6, 33.4], 100, 10, [100, 35], [70, 30]),
        ([68.6, 34.4], 103, 10, [100, 100], [73, 30]),
        ([0.0, 100.0], 100, 30, [0, 0], [0, 100]),
    ],
)
async def test_rounded_amounts_add_up_and_stay_within_room(
    exact: list[float], batch: int, step: int, room: list[float], expected: list[int]
) -> None:
    assert round_to_steps(exact, batch, step, room) == expected


async def test_a_batch_sheet_adds_up_and_admits_what_rounding_misses() -> None:
    state = await ask(**{**EXAMPLE, "batch_kg": 1000.25, "messages": []})

    sheet = state["result"]["batch"]
    assert sum(round(line["kg"] * 1e6) for line in sheet["lines"]) == 1_000_250_000
    assert sheet["total_kg"] == 1000.25
    for item in sheet["missed"]:
        assert item["limit"] in state["messages"][-1].text


@pytest.mark.parametrize(
    ("keys", "code", "words"),
    [
        ({"ingredients": None}, "missing_ingredients", "price_per_kg"),
        ({"ingredients": []}, "invalid_input", "input.ingredients"),
        ({"ingredients": "soya"}, "invalid_input", "input.ingredients"),
        ({"ingredients": [SOYA] * 101}, "invalid_input", "at most 100 items"),
        ({"ingredients": [SOYA, {**MAIZE, "name": "soya"}]}, "duplicate_ingredient", "Ingredients 1 and 2"),
        (
            {"ingredients": [{**SOYA, "price_per_kg": -1}]},
            "invalid_input",
            "input.ingredients.0.price_per_kg",
        ),
        ({"ingredients": [{**SOYA, "price_per_kg": float("nan")}]}, "invalid_input", "price_per_kg"),
        ({"ingredients": [{"name": "Soya"}]}, "invalid_input", "price_per_kg: Field required"),
        (
            {"ingredients": [{**SOYA, "min_percent": 50, "max_percent": 40}]},
            "invalid_input",
            "min_percent 50 is",
        ),
        ({"ingredients": [{**SOYA, "max_percent": 140}]}, "invalid_input", "max_percent"),
        ({"ingredients": [{**SOYA, "colour": "red"}]}, "invalid_input", "colour"),
        ({"ingredients": [{**SOYA, "properties": {"protein": float("inf")}}]}, "invalid_input", "protein"),
        ({"ingredients": [{**SOYA, "properties": {"cost": 3}}]}, "reserved_property", "'cost'"),
        ({"ingredients": [SOYA, {**MAIZE, "properties": {}}]}, "missing_property", "'protein': Maize"),
        ({"targets": {"protien": {"min": 1}}}, "unknown_property", "cost, protein"),
        ({"targets": {"protein": {"min": 5, "max": 4}}}, "invalid_input", "min 5 is above max 4"),
        ({"targets": {"protein": {}}}, "invalid_input", "give min, max, or both"),
        ({"objective": {"minimise": "cost", "maximise": "protein"}}, "invalid_input", "exactly one"),
        ({"objective": {"maximise": "cost"}}, "invalid_objective", "cannot be maximised"),
        ({"objective": {"maximise": "taste"}}, "unknown_property", "'taste'"),
        ({"messages": [("user", "maximise flavour")]}, "unknown_property", "'flavour'"),
        ({"batch_kg": 0}, "invalid_input", "input.batch_kg"),
        ({"batch_kg": float("inf")}, "invalid_input", "input.batch_kg"),
        ({"messages": [("user", "x" * 1_000_000)]}, "prompt_too_long", "1,000,000 characters"),
    ],
)
async def test_bad_input_is_a_problem(keys: dict[str, Any], code: str, words: str) -> None:
    state = await graph.ainvoke({"messages": [], **TWO, **keys})

    assert state["problem"]["code"] == code
    assert words in f"{state['problem']['message']} {state['problem']['cure']}"
    assert state["result"] == {}
