"""What callers send to the trials agent, and what its state holds."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from graphs.kit.state import ToolAgentState

MAX_SUBJECTS: Final = 20_000
MAX_PER_GROUP: Final = 2**20

Fraction = Annotated[float, Field(gt=0, lt=1)]


class State(ToolAgentState, total=False):
    """Adds what a caller may send, at least one of the three; it stays for later turns of the thread."""

    design: dict[str, Any]
    survival: dict[str, Any]
    interim: dict[str, Any]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)

    alpha: float = Field(0.05, ge=1e-6, lt=1)


class _Test(_Input):
    power: Fraction = 0.8

    @model_validator(mode="after")
    def _useful(self) -> Self:
        if self.power <= self.alpha:
            raise ValueError(f"power {self.power:g} is not above alpha {self.alpha:g}")
        return self


class _Groups(_Test):
    per_group: int | None = Field(None, ge=2, le=MAX_PER_GROUP)
    dropout: float = Field(0.0, ge=0, le=0.9)


class MeansDesign(_Groups):
    """A comparison of two means."""

    kind: Literal["two_means"]
    difference: float
    sd: float = Field(gt=0)


class ProportionsDesign(_Groups):
    """A comparison of two proportions."""

    kind: Literal["two_proportions"]
    control: Fraction
    treatment: Fraction


class Design(RootModel[MeansDesign | ProportionsDesign]):
    """A two-group trial to size, or to judge at a given size."""

    root: MeansDesign | ProportionsDesign = Field(discriminator="kind")


class Survival(_Input):
    """Times to an event (1) or to censoring (0), one entry a subject in each list."""

    times: list[Annotated[float, Field(ge=0)]] = Field(min_length=2, max_length=MAX_SUBJECTS)
    events: list[Literal[0, 1]] = Field(max_length=MAX_SUBJECTS)
    groups: list[Annotated[str, Field(min_length=1, max_length=60)]] = Field(max_length=MAX_SUBJECTS)
    unit: str = Field("time units", max_length=20)

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if not len(self.times) == len(self.events) == len(self.groups):
            raise ValueError("times, events and groups differ in length; give each subject one entry in each")
        if not 2 <= len(set(self.groups)) <= 8:
            raise ValueError(f"a comparison needs 2 to 8 groups, not {len(set(self.groups))}")
        if not any(self.events):
            raise ValueError("no subject had the event, so there is nothing to compare yet")
        return self


class Interim(_Test):
    """One look at a running group-sequential trial."""

    information_fraction: float = Field(gt=0, le=1)
    z: float = Field(gt=-10, lt=10)
    earlier_fractions: list[float] = Field([], max_length=20)
    spending: Literal["obrien_fleming", "pocock"] = "obrien_fleming"

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        now = self.information_fraction
        looks = [0.0, *self.earlier_fractions, now, *([1.0] if now < 1 else [])]
        if any(later - look < 0.01 - 1e-9 for look, later in pairwise(looks)):
            raise ValueError("information fractions must increase to 1 in steps of 0.01 or more")
        return self


MODELS: Final[dict[str, type[BaseModel]]] = {"design": Design, "survival": Survival, "interim": Interim}
