"""What the formulation agent is sent: `ingredients`, and optionally `targets`, `objective` and `batch_kg`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from graphs.kit.problems import InputProblem, parse_input
from graphs.kit.state import AgentState

COST: Final = "cost"
"""The name under which the price a kg of the blend can be a target or the objective."""

MAX_LISTED_CHARACTERS: Final = 500

Name = Annotated[str, Field(min_length=1, max_length=80)]
Value = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class State(AgentState, total=False):
    """The conversation with the recipe it is about."""

    ingredients: list[dict[str, Any]]
    targets: dict[str, dict[str, float]]
    objective: dict[str, str]
    batch_kg: float


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Ingredient(_Strict):
    """One ingredient: its price, its properties a kg (any unit that mixes by mass), and its limits."""

    name: Name
    price_per_kg: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    properties: dict[Name, Value] = Field(default_factory=dict, max_length=50)
    min_percent: Percent = 0
    max_percent: Percent = 100
    available_kg: float | None = Field(default=None, ge=0, le=1e9, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_percent > self.max_percent:
            raise ValueError(f"min_percent {self.min_percent:g} is above max_percent {self.max_percent:g}")
        return self


class Target(_Strict):
    """What the blend's value of one property must be at least, at most, or both."""

    min: Value | None = None
    max: Value | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max, or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class Objective(_Strict):
    """What to minimise or maximise: "cost" or the name of a property."""

    minimise: Name | None = Field(default=None, validation_alias=AliasChoices("minimise", "minimize"))
    maximise: Name | None = Field(default=None, validation_alias=AliasChoices("maximise", "maximize"))

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.minimise is None) == (self.maximise is None):
            raise ValueError('give exactly one of minimise and maximise, such as {"minimise": "cost"}')
        return self

    @property
    def of(self) -> str:
        """What is optimised."""
        return self.minimise or self.maximise or COST


class Recipe(_Strict):
    """Everything that a blend is worked out from."""

    ingredients: list[Ingredient] = Field(min_length=1, max_length=100)
    targets: dict[Name, Target] = Field(default_factory=dict, max_length=50)
    objective: Objective = Objective(minimise=COST)
    batch_kg: float = Field(default=100, gt=0, le=1e7, allow_inf_nan=False)

    def values(self, name: str) -> list[float]:
        """The property of each ingredient, or its price."""
        if name == COST:
            return [item.price_per_kg for item in self.ingredients]
        return [item.properties[name] for item in self.ingredients]


def read_recipe(state: Mapping[str, Any], **wishes: object) -> Recipe:
    """Validate the input, with what the user asked for now in place of what was sent.

    Raises:
        InputProblem: Something is missing, out of bounds, twice there, or named but unknown.
    """
    if state.get("ingredients") is None:
        raise InputProblem(
            "missing_ingredients",
            "There are no 'ingredients' in the input.",
            "Send 'ingredients': a list of objects that need name and price_per_kg, and take properties, "
            "min_percent, max_percent and available_kg.",
        )
    sent = {key: state[key] for key in Recipe.model_fields if state.get(key) is not None}
    recipe = parse_input(Recipe, {**sent, **wishes}, key="input")
    _check_ingredients(recipe)
    for name in recipe.targets:
        _check_known(recipe, name)
    goal = recipe.objective.of
    # A question may write a property in another case than the data does.
    spelled = {name.casefold(): name for item in recipe.ingredients for name in item.properties}
    goal = spelled.get(goal.casefold(), goal)
    _check_known(recipe, goal)
    if goal == COST and recipe.objective.maximise:
        raise InputProblem(
            "invalid_objective", "The cost cannot be maximised.", 'Use {"minimise": "cost"} or a property.'
        )
    side = "minimise" if recipe.objective.minimise else "maximise"
    return recipe.model_copy(update={"objective": Objective(**{side: goal})})


def _check_ingredients(recipe: Recipe) -> None:
    seen: dict[str, int] = {}
    for number, item in enumerate(recipe.ingredients, 1):
        first = seen.setdefault(item.name.casefold(), number)
        if first != number:
            raise InputProblem(
                "duplicate_ingredient",
                f"Ingredients {first} and {number} are both called '{item.name}'.",
                "Give each ingredient a name of its own, or merge them.",
            )
        if COST in item.properties:
            raise InputProblem(
                "reserved_property",
                f"'{item.name}' has a property called 'cost', which stands for the price.",
                "Rename the property.",
            )


def _check_known(recipe: Recipe, name: str) -> None:
    """Raise unless each ingredient has the property; a missing value is never taken for zero."""
    without = [item.name for item in recipe.ingredients if name not in item.properties]
    if name == COST or not without:
        return
    if len(without) == len(recipe.ingredients):
        known = sorted({name for item in recipe.ingredients for name in item.properties})
        raise InputProblem(
            "unknown_property",
            f"No ingredient has the property '{name}'.",
            f"Use one of: {', '.join([COST, *known])[:MAX_LISTED_CHARACTERS]}.",
        )
    raise InputProblem(
        "missing_property",
        f"These ingredients have no value for '{name}': {', '.join(without)[:MAX_LISTED_CHARACTERS]}.",
        "Give each a value; 0 if it has none.",
    )
