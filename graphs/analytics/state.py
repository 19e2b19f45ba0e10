"""What callers send to the analytics agent, and what its state holds."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from graphs.kit.datafolder import read_data_file
from graphs.kit.problems import InputProblem
from graphs.kit.state import AgentState

MAX_INLINE_CHARACTERS: Final = 7_000_000
MAX_FILE_BYTES: Final = 20_000_000
MAX_SQL_CHARACTERS: Final = 5_000


class State(AgentState, total=False):
    """Adds the data and the SQL that a caller may send with a turn.

    `data` stays for later turns of the thread. `sql` is for one turn: intake moves it to `asked_sql`.
    """

    data: dict[str, Any]
    sql: str | None
    asked_sql: str | None


class DataInput(BaseModel):
    """The table, given in exactly one way."""

    model_config = ConfigDict(extra="forbid")

    csv: Annotated[str, StringConstraints(max_length=MAX_INLINE_CHARACTERS)] | None = None
    parquet_base64: Annotated[str, StringConstraints(max_length=MAX_INLINE_CHARACTERS)] | None = None
    path: Annotated[str, StringConstraints(min_length=1, max_length=400)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> DataInput:
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            told = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of csv, parquet_base64 and path (given: {told})")
        return self


async def read_content(data: DataInput) -> bytes:
    """Return the bytes of the CSV or Parquet file that `data` gives or names.

    Raises:
        InputProblem: The base64 or the text cannot be decoded, or the path is not a file of the data folder.
    """
    if data.path is not None:
        return await read_data_file(data.path, max_bytes=MAX_FILE_BYTES)
    if data.csv is not None:
        # A lone surrogate, which JSON can carry, becomes a question mark instead of an encoding error.
        return data.csv.encode("utf-8", errors="replace")
    try:
        content = base64.b64decode(data.parquet_base64 or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputProblem(
            "invalid_base64", "data.parquet_base64 is not base64.", "Encode the Parquet file with base64."
        ) from error
    if not content.startswith(b"PAR1"):
        raise InputProblem(
            "invalid_parquet",
            "data.parquet_base64 does not hold a Parquet file (it does not begin with PAR1).",
            "Send a Parquet file, or send CSV text as data.csv.",
        )
    return content
