"""What the formulation agent is sent: `ingredients`, and optionally `targets`, `objective` and `batch_kg`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from graphs.kit.problems import parse_input
from graphs.kit.state import ToolAgentState

COST: Final = "cost"
"""The name under which the price a kg of the blend can be a target or the objective."""

Name = Annotated[str, Field(min_length=1, max_length=80)]
Value = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class State(ToolAgentState, total=False):
    """The conversation with the recipe it is about."""

    ingredients: list[dict[str, Any]]
    targets: dict[str, dict[str, float]]
    objective: dict[str, str]
    batch_kg: float


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)


class Ingredient(_Strict):
    """One ingredient: its price, its properties a kg (any unit that mixes by mass), and its limits."""

    name: Name
    price_per_kg: float = Field(ge=0, le=1e6)
    properties: dict[Name, Value] = Field(default_factory=dict, max_length=50)
    min_percent: Percent = 0
    max_percent: Percent = 100
    available_kg: float | None = Field(default=None, ge=0, le=1e9)


class Target(_Strict):
    """What the blend's value of one property must be at least, at most, or both."""

    min: Value | None = None
    max: Value | None = None


class Recipe(_Strict):
    """Everything that a blend is worked out from."""

    ingredients: list[Ingredient] = Field(min_length=1, max_length=100)
    targets: dict[Name, Target] = Field(default_factory=dict, max_length=50)
    objective: dict[Literal["minimise", "maximise"], Name] = Field(
        default={"minimise": COST}, min_length=1, max_length=1
    )
    batch_kg: float = Field(default=100, ge=0.001, le=1e7)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [item.name.casefold() for item in self.ingredients]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"several ingredients are called {', '.join(sorted(twice))}")
        if any(COST in item.properties for item in self.ingredients):
            raise ValueError("'cost' stands for price_per_kg: give that property another name")
        for name in [*self.targets, *self.objective.values()]:
            # A missing value is never taken for zero.
            without = sorted(item.name for item in self.ingredients if name not in item.properties)
            if name != COST and without:
                known = sorted({COST}.union(*(item.properties for item in self.ingredients)))
                raise ValueError(f"no '{name}' in {', '.join(without)}; known are {', '.join(known)}"[:1000])
        return self

    def values(self, name: str) -> list[float]:
        """The property of each ingredient, or its price."""
        return [item.price_per_kg if name == COST else item.properties[name] for item in self.ingredients]


def read_recipe(state: Mapping[str, Any], **wishes: object) -> Recipe:
    """Validate the input, with what the user asked for now in place of what was sent; raises InputProblem."""
    sent = {key: state[key] for key in Recipe.model_fields if state.get(key) is not None}
    return parse_input(Recipe, {**sent, **wishes}, key="input")
