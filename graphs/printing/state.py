"""What the printing agent is sent: `part` and, optionally, `settings`."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from graphs.kit.state import ToolAgentState

MAX_STL_BYTES: Final = 10_000_000
MM_PER_UNIT: Final = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "inch": 25.4}


class State(ToolAgentState, total=False):
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

    material: Literal["PLA", "PETG", "ABS", "TPU", "PA"] = "PLA"
    price_per_kg: float | None = Field(default=None, ge=0, le=1e6)
    machine_cost_per_hour: float = Field(default=0.5, ge=0, le=1e6)
    currency: str = Field(default="EUR", min_length=1, max_length=8)
    layer_height_mm: float = Field(default=0.2, ge=0.02, le=2)
    line_width_mm: float = Field(default=0.45, ge=0.1, le=3)
    walls: int = Field(default=3, ge=1, le=100)
    infill_percent: float = Field(default=20, ge=0, le=100)
    speed_mm_per_second: float = Field(default=60, ge=1, le=2000)
    copies: int = Field(default=1, ge=1, le=10_000)
    overhang_degrees: float = Field(default=45, ge=1, le=89)
