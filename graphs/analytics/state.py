"""What callers send to the analytics agent, and what its state holds."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, RootModel, model_validator

from graphs.kit.state import ToolAgentState

MAX_INLINE: Final = 7_000_000


class State(ToolAgentState, total=False):
    """Adds what a caller may send; `sql` is for one turn, so intake moves it to `asked_sql`."""

    data: dict[str, Any]
    sql: str | None
    asked_sql: str | None


class SqlInput(RootModel[str]):
    """One SELECT over the table `data`, in DuckDB's dialect."""

    root: str = Field(min_length=1, max_length=5_000)


class DataInput(BaseModel):
    """The table, given in exactly one way; it stays for later turns of the thread."""

    model_config = ConfigDict(extra="forbid")

    csv: str | None = Field(None, max_length=MAX_INLINE)
    parquet_base64: Base64Bytes | None = Field(None, max_length=MAX_INLINE)
    path: str | None = Field(None, min_length=1, max_length=400)

    @model_validator(mode="after")
    def _one_readable_source(self) -> DataInput:
        if sum(value is not None for _, value in self) != 1:
            raise ValueError("give exactly one of csv, parquet_base64 and path")
        if self.parquet_base64 is not None and not self.parquet_base64.startswith(b"PAR1"):
            raise ValueError("parquet_base64 is not a Parquet file in base64")
        return self
