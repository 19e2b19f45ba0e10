"""The formulation agent with the offline model: textbook blends, conflicts, batch sheets, and bad input."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from graphs.formulation.graph import graph

pytestmark = pytest.mark.usefixtures("no_blocking")

EXAMPLE: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "graphs/examples/formulation.json").read_text()
)
SOYA = {"name": "Soya", "price_per_kg": 0.5, "properties": {"protein": 48}}
MAIZE = {"name": "Maize", "price_per_kg": 0.2, "properties": {"protein": 8}}
TWO: dict[str, Any] = {"ingredients": [SOYA, MAIZE], "targets": {"protein": {"min": 20}}, "batch_kg": 1000}


async def ask(text: str = "", **keys: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}] if text else []
    state: dict[str, Any] = await graph.ainvoke({**keys, "messages": messages})
    return state


def shares(state: dict[str, Any]) -> dict[str, float]:
    return {line["ingredient"]: line["percent"] for line in state["result"]["blend"]["shares"]}


def prices(state: dict[str, Any]) -> dict[str, float]:
    return {item["limit"]: item["shadow_price"] for item in state["result"]["blend"]["binding"]}


async def test_two_ingredients_against_the_closed_form() -> None:
    state = await ask("The cheapest feed, please.", **TWO)

    # 48 s + 8 (1 - s) = 20, so s = 0.3; a point of protein costs the price gap over the protein gap.
    assert shares(state) == pytest.approx({"Soya": 30, "Maize": 70})
    assert state["result"]["blend"]["properties"] == pytest.approx({"cost": 0.29, "protein": 20})
    assert prices(state) == pytest.approx({"protein at least 20": 0.3 / 40})
    assert "Soya 300 kg, Maize 700 kg; it costs 290.00" in state["messages"][-1].text
    assert "nothing is lost in mixing" in state["messages"][-1].text
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

    assert shares(state) == pytest.approx({"Beef": 60, "Gel": 40})
    assert state["result"]["blend"]["properties"]["cost"] == pytest.approx(5.2)
    assert prices(state) == {"fat at least 6": 0.7}


async def test_shadow_prices_are_what_a_changed_limit_really_does() -> None:
    base = await ask(**EXAMPLE)
    for name, limit in (("protein", "protein at least 18"), ("energy", "energy at least 13.2")):
        changed = copy.deepcopy(EXAMPLE)
        changed["targets"][name]["min"] += 0.01
        cost, after = (s["result"]["blend"]["properties"]["cost"] for s in (base, await ask(**changed)))
        assert after - cost == pytest.approx(0.01 * prices(base)[limit], abs=2e-6)


async def test_the_question_sets_objective_and_batch() -> None:
    limited = {**SOYA, "available_kg": 50}
    state = await ask(
        "Maximise the protein in a batch of 0.5 t.", **{**TWO, "ingredients": [limited, MAIZE], "targets": {}}
    )

    assert state["result"]["blend"]["objective"] == {"maximise": "protein"}
    assert shares(state) == pytest.approx({"Soya": 10, "Maize": 90}), "50 kg are a tenth of this batch"
    # A percent more soya would bring 0.4 points more protein.
    assert prices(state) == pytest.approx({"Soya % in stock at most 10": 0.4})
    assert [line["kg"] for line in state["result"]["batch"]["lines"]] == [50, 450]


@pytest.mark.parametrize(
    ("soya", "maize", "targets", "conflict", "ways_out"),
    [
        # 30 % soya gives 20 points of protein; 25 points need 42.5 %. The generous price has no part in it.
        ({"max_percent": 30}, {}, {"protein": {"min": 25}, "cost": {"max": 10}},
         "protein at least 25; Soya % at most 30", ["protein min 25 → 20", "Soya % max 30 → 42.5"]),
        ({}, {}, {"protein": {"min": 60}}, "protein at least 60", ["protein min 60 → 48"]),
        ({"min_percent": 60}, {"min_percent": 50}, {},
         "Soya % at least 60; Maize % at least 50", ["Soya % min 60 → 50", "Maize % min 50 → 40"]),
        ({"max_percent": 40}, {"available_kg": 500}, {},
         "Soya % at most 40; Maize % in stock at most 50", ["Soya % max 40 → 50"]),
    ],
)  # fmt: skip
async def test_an_infeasible_blend_names_the_conflict_and_ways_out(
    soya: dict[str, Any], maize: dict[str, Any], targets: Any, conflict: str, ways_out: list[str]
) -> None:
    state = await ask(ingredients=[SOYA | soya, MAIZE | maize], targets=targets, batch_kg=1000)

    problem = state["problem"]
    assert problem["code"] == "infeasible_blend"
    assert problem["message"].endswith(f": {conflict}.")
    assert all(way in problem["cure"] for way in ways_out)
    assert state["messages"][-1].text == f"{problem['message']} {problem['cure']}"


async def test_relaxing_as_told_makes_several_conflicts_feasible() -> None:
    recipe = copy.deepcopy(EXAMPLE)
    recipe["targets"] |= {"protein": {"min": 24}, "fibre": {"max": 3}, "energy": {"min": 14.5}}
    cure = (await ask(**recipe))["problem"]["cure"]

    changes = re.findall(r"(\w+) (min|max) \S+ → (\S+\d)", cure.split(" Or ")[0])
    assert len(changes) > 1
    for name, sense, value in changes:
        recipe["targets"][name][sense] = float(value)
    assert (await ask(**recipe))["problem"] is None


@pytest.mark.parametrize("batch_kg", [100, 0.5, 1000.0025])
async def test_rounded_amounts_add_up_to_the_batch(batch_kg: float) -> None:
    thirds = [{"name": name, "price_per_kg": 1, "max_percent": 33.3333334} for name in "abc"]
    sheet = (await ask(ingredients=thirds, batch_kg=batch_kg))["result"]["batch"]

    amounts = [line["kg"] for line in sheet["lines"]]
    assert sum(amounts) == pytest.approx(batch_kg, abs=1e-9)
    assert amounts == pytest.approx([batch_kg / 3] * 3, abs=sheet["step_kg"])
    assert amounts[0] == round(amounts[0], 5), "a scale can show it"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"ingredients": None}, "input.ingredients: Field required"),
        ({"ingredients": []}, "input.ingredients"),
        ({"ingredients": [SOYA] * 101}, "at most 100 items"),
        ({"ingredients": [SOYA, {**MAIZE, "name": "soya"}]}, "several ingredients are called soya"),
        ({"ingredients": [{**SOYA, "price_per_kg": -1}]}, "input.ingredients.0.price_per_kg"),
        ({"ingredients": [{**SOYA, "price_per_kg": float("nan")}]}, "price_per_kg"),
        ({"ingredients": [{**SOYA, "colour": "red"}]}, "colour"),
        ({"ingredients": [{**SOYA, "properties": {"cost": 3}}]}, "'cost' stands for price_per_kg"),
        ({"ingredients": [SOYA, {**MAIZE, "properties": {}}]}, "no 'protein' in Maize"),
        ({"targets": {"protien": {"min": 1}}}, "known are cost, protein"),
        ({"objective": {"minimise": "cost", "maximise": "protein"}}, "input.objective"),
        ({"objective": {"maximise": "taste"}}, "no 'taste'"),
        ({"text": "maximise flavour"}, "no 'flavour'"),
        ({"batch_kg": 0}, "input.batch_kg"),
    ],
)
async def test_bad_input_is_a_problem(keys: dict[str, Any], words: str) -> None:
    state = await ask(**{**TWO, **keys})

    assert state["problem"]["code"] == "invalid_input"
    assert words in state["problem"]["message"]
    assert state["result"] == {}
