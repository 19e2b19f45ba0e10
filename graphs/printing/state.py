"""What the printing agent is sent: `part` and, optionally, `settings`."""

from __future__ import annotations

from math import hypot
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from graphs.kit.state import AgentState
from graphs.printing.stl import MAX_STL_BYTES

MATERIALS: Final = {
    "PLA": (1.24, 20.0),
    "PETG": (1.27, 22.0),
    "ABS": (1.04, 22.0),
    "ASA": (1.07, 28.0),
    "TPU": (1.21, 35.0),
    "PA": (1.14, 50.0),
    "PC": (1.20, 45.0),
}
"""Density in g/cm³ and a usual price a kg of each material; `settings` can say otherwise."""

MM_PER_UNIT: Final = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "inch": 25.4}

Coordinate = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Length = Annotated[float, Field(gt=0, le=5000, allow_inf_nan=False)]


class State(AgentState, total=False):
    """The conversation with the part and the settings it is about."""

    part: dict[str, Any]
    settings: dict[str, Any]


class Part(BaseModel):
    """The STL file, inline or by name; an STL has no unit, so it is told here."""

    model_config = ConfigDict(extra="forbid")

    stl_base64: str | None = Field(default=None, max_length=MAX_STL_BYTES * 4 // 3 + 4)
    path: str | None = Field(default=None, min_length=1, max_length=500)
    unit: Literal["mm", "cm", "m", "inch"] = "mm"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.stl_base64 is None) == (self.path is None):
            raise ValueError("give exactly one of stl_base64 (the file itself) and path (in the data folder)")
        return self


class Settings(BaseModel):
    """The printer, the material and the prices."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    material: Literal["PLA", "PETG", "ABS", "ASA", "TPU", "PA", "PC"] = "PLA"
    density_g_per_cm3: float | None = Field(default=None, gt=0, le=25)
    price_per_kg: float | None = Field(default=None, ge=0, le=1e6)
    currency: str = Field(default="EUR", min_length=1, max_length=8)
    machine_cost_per_hour: float = Field(default=0.5, ge=0, le=1e6)
    layer_height_mm: float = Field(default=0.2, ge=0.02, le=2)
    line_width_mm: float = Field(default=0.45, ge=0.1, le=3)
    walls: int = Field(default=3, ge=1, le=100)
    infill_percent: float = Field(default=20, ge=0, le=100)
    speed_mm_per_second: float = Field(default=60, ge=1, le=2000)
    copies: int = Field(default=1, ge=1, le=10_000)
    overhang_degrees: float = Field(default=45, ge=1, le=89)
    build_volume_mm: tuple[Length, Length, Length] = (220, 220, 250)
    build_direction: tuple[Coordinate, Coordinate, Coordinate] = (0, 0, 1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.layer_height_mm > self.line_width_mm:
            raise ValueError("layer_height_mm cannot be larger than line_width_mm")
        if hypot(*self.build_direction) < 1e-6:
            raise ValueError("build_direction needs a length; [0, 0, 1] is the part as modelled")
        return self
