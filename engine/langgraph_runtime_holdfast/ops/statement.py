"""Small pieces of SQL text with their parameters: conditions that are joined with AND, sorting, JSON values.

Nothing a caller sends ever becomes SQL text: values are parameters, and names come from fixed lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import adapters
from psycopg.adapt import Dumper
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.limits import check_size


class Conditions:
    """The WHERE of one statement, and the parameters of all of it."""

    def __init__(self) -> None:
        """Begin without conditions, which is true for every row."""
        self.parameters: dict[str, Any] = {}
        self._parts: list[str] = []

    def value(self, value: Any) -> str:
        """Keep a parameter and return its placeholder."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f"%({name})s"

    def add(self, condition: str) -> None:
        """Require a condition, whose values are placeholders of this object."""
        self._parts.append(condition)

    def equal(self, column: str, value: Any) -> None:
        """Require that a column has this value; None requires nothing."""
        if value is not None:
            self.add(f"{column} = {self.value(value)}")

    def contain(self, column: str, wanted: Mapping[str, Any] | None) -> None:
        """Require that a jsonb column contains these keys and values; nothing is required of None or {}."""
        if wanted:
            self.add(f"{column} @> {self.value(json_text(wanted))}::jsonb")

    def __str__(self) -> str:
        """The SQL text after WHERE."""
        return " AND ".join(self._parts) or "true"


def json_text(value: Any) -> str:
    """Encode as the API encodes JSON: its own types, and no NUL, which jsonb cannot hold."""
    from langgraph_api.serde import json_dumpb

    encoded: bytes = json_dumpb(value)
    return encoded.decode()


def bounded_text(what: str, value: Any) -> str:
    """Encode what is kept; `what` names it in the error.

    Raises:
        TooLargeError: It is larger than HOLDFAST_LARGEST_MB.
    """
    text = json_text(value)
    check_size(what, len(text))
    return text


class JsonBytes(bytes):
    """JSON that is sent to Postgres as it is: what is large need not be decoded only to be encoded again."""


class _JsonBytesDumper(Dumper):
    def dump(self, obj: JsonBytes) -> bytes:
        return obj


adapters.register_dumper(JsonBytes, _JsonBytesDumper)


def json_bytes(value: Any) -> JsonBytes:
    """Encode as `json_text` does, for a parameter that may be large."""
    from langgraph_api.serde import json_dumpb

    return JsonBytes(json_dumpb(value))


def as_uuid(value: str | UUID, what: str = "ID") -> UUID:
    """Read a UUID.

    Raises:
        HTTPException: 422, it is none.
    """
    if isinstance(value, UUID):
        return value
    try:
        return UUID(str(value))
    except ValueError:
        raise HTTPException(status_code=422, detail=f"Invalid {what}: must be a UUID") from None


def order_by(sort_by: str | None, sort_order: str | None, columns: Mapping[str, str], default: str) -> str:
    """Build ORDER BY from names that a caller may use.

    Args:
        sort_by: The caller's name; None takes the default.
        sort_order: "asc" or "desc", in any case; descending if left out.
        columns: From the caller's names to SQL expressions; the last is unique, to make pages stable.
        default: The name that is taken if none is given.
    """
    name = (sort_by or "").lower()
    expression = columns.get(name) or columns[default]
    direction = "ASC" if (sort_order or "").upper() == "ASC" else "DESC"
    unique = list(columns.values())[-1]
    tie = "" if expression == unique else f", {unique} {direction}"
    # No NULLS LAST: the columns are not nullable, and an index in the plain order could not serve it.
    return f"{expression} {direction}{tie}"


def selected(row: dict[str, Any], select: Sequence[str] | None) -> dict[str, Any]:
    """Leave only the fields that the caller asked for; all of them without a list."""
    return row if not select else {name: value for name, value in row.items() if name in select}


def without_nul(value: str | None, what: str) -> str | None:
    """Refuse text that Postgres cannot hold.

    Raises:
        HTTPException: 422, it has a NUL character.
    """
    if value is not None and "\x00" in value:
        raise HTTPException(status_code=422, detail=f"Invalid {what}: it must not contain a NUL character")
    return value


def page(conditions: Conditions, limit: int, offset: int) -> str:
    """Build LIMIT and OFFSET; one row more than asked for tells whether there is another page.

    Raises:
        HTTPException: 422, one of them is negative or no 64-bit integer.
    """
    for name, value in (("limit", limit), ("offset", offset)):
        if not 0 <= value < 2**62:
            raise HTTPException(status_code=422, detail=f"Invalid {name}: must be between 0 and 2**62")
    return f"LIMIT {conditions.value(limit + 1)}::bigint OFFSET {conditions.value(offset)}::bigint"
