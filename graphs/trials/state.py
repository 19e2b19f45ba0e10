"""What callers send to the trials agent, and what its state holds."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from graphs.kit.state import AgentState

SECTIONS: Final = ("design", "survival", "interim")
MAX_PER_GROUP: Final = 1_000_000
MAX_SUBJECTS: Final = 20_000
MAX_GROUPS: Final = 8
MAX_LOOKS: Final = 20
SMALLEST_STEP: Final = 0.01
FARTHEST_Z: Final = 10.0
"""Boundaries beyond this are cut here: no z that a trial can see reaches them."""


class State(AgentState, total=False):
    """Adds what a caller may send with a turn, any of the three.

    Intake moves what was sent to `work`, where it stays: a later turn that sends nothing asks about it again.
    """

    design: dict[str, Any] | None
    survival: dict[str, Any] | None
    interim: dict[str, Any] | None
    work: dict[str, Any]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


Alpha = Annotated[float, Field(ge=1e-6, lt=1)]
Proportion = Annotated[float, Field(gt=0, lt=1)]


class Design(_Input):
    """A two-group trial to size, or to judge at a given size."""

    kind: Literal["two_means", "two_proportions"]
    difference: float | None = None
    sd: Annotated[float, Field(gt=0)] | None = None
    control: Proportion | None = None
    treatment: Proportion | None = None
    alpha: Alpha = 0.05
    power: Annotated[float, Field(gt=0, lt=1)] = 0.8
    sides: Literal[1, 2] = 2
    ratio: Annotated[float, Field(ge=0.1, le=10)] = 1.0
    per_group: Annotated[int, Field(ge=2, le=MAX_PER_GROUP)] | None = None
    dropout: Annotated[float, Field(ge=0, le=0.9)] = 0.0

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Design:
        needed, foreign = ("difference", "sd"), ("control", "treatment")
        if self.kind == "two_proportions":
            needed, foreign = foreign, needed
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{self.kind} needs {' and '.join(needed)} (missing: {', '.join(missing)})")
        extra = [name for name in foreign if getattr(self, name) is not None]
        if extra:
            raise ValueError(f"{self.kind} does not take {' and '.join(extra)}")
        if self.difference == 0 or (self.control is not None and self.control == self.treatment):
            raise ValueError("the effect is zero; no sample size can show a difference that is not there")
        if self.power <= self.alpha:
            raise ValueError(
                f"power {self.power:g} is not above alpha {self.alpha:g}; a test of no use reaches that"
            )
        return self


Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]


class Survival(_Input):
    """Times to an event or to censoring, one entry a subject in each list."""

    times: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=MAX_SUBJECTS)]
    events: Annotated[list[Annotated[int, Field(ge=0, le=1)]], Field(max_length=MAX_SUBJECTS)]
    groups: Annotated[list[Label], Field(max_length=MAX_SUBJECTS)]
    unit: Annotated[str, StringConstraints(strip_whitespace=True, max_length=20)] = "time units"
    alpha: Alpha = 0.05

    @model_validator(mode="after")
    def _comparable(self) -> Survival:
        sizes = {"times": len(self.times), "events": len(self.events), "groups": len(self.groups)}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ValueError(
                f"the lists differ in length ({told}); each subject needs one entry in all three"
            )
        names = sorted(set(self.groups))
        if len(names) < 2:
            raise ValueError(f"there is only one group ('{names[0]}'); a comparison needs at least two")
        if len(names) > MAX_GROUPS:
            raise ValueError(f"there are {len(names)} groups; {MAX_GROUPS} is the most")
        if not any(self.events):
            raise ValueError("no subject had the event, so there is nothing to compare yet")
        return self


def _increasing(fractions: list[float]) -> list[float]:
    for before, after in zip([0.0, *fractions], fractions, strict=False):
        if after - before < SMALLEST_STEP - 1e-9:
            raise ValueError(f"fractions must increase by at least {SMALLEST_STEP:g} ({before:g}, {after:g})")
    return fractions


Fraction = Annotated[float, Field(gt=0, le=1)]


class Interim(_Input):
    """One look at a running group-sequential trial."""

    information_fraction: Annotated[float, Field(ge=SMALLEST_STEP, le=1)]
    z: Annotated[float, Field(gt=-FARTHEST_Z, lt=FARTHEST_Z)]
    earlier_fractions: Annotated[
        list[Fraction], AfterValidator(_increasing), Field(max_length=MAX_LOOKS)
    ] = []
    spending: Literal["obrien_fleming", "pocock"] = "obrien_fleming"
    alpha: Annotated[float, Field(ge=1e-6, lt=0.5)] = 0.05
    sides: Literal[1, 2] = 2
    power: Annotated[float, Field(gt=0, lt=1)] = 0.8
    futility_below: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _after_the_earlier(self) -> Interim:
        last = self.earlier_fractions[-1] if self.earlier_fractions else 0.0
        if self.information_fraction - last < SMALLEST_STEP - 1e-9:
            raise ValueError(
                f"information_fraction {self.information_fraction:g} is not after the look at {last:g}"
            )
        if 0 < 1 - self.information_fraction < SMALLEST_STEP - 1e-9:
            raise ValueError(
                f"information_fraction is too near to 1; send 1 or at most {1 - SMALLEST_STEP:g}"
            )
        if self.power <= self.alpha:
            raise ValueError(f"power {self.power:g} is not above alpha {self.alpha:g}")
        return self


MODELS: Final[dict[str, type[_Input]]] = {"design": Design, "survival": Survival, "interim": Interim}
