"""Authorisation filters as SQL, so that the database never returns a row that the caller may not see.

A handler of the user's `Auth` object returns what a resource's metadata must have:

    {"owner": "a"}                       the key equals the value
    {"owner": {"$eq": "a"}}              the same
    {"tags": {"$contains": "x"}}         the key is a list that holds the value (or all of a list of values)
    {"$or": [{…}, {…}]}, {"$and": […]}   two or more groups, nested at most two deep

Several keys are joined with AND.

Anything else fails closed: an operator that is not known is an error of the server's configuration, never a
filter that matches everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.ops.statement import Conditions

MAX_NESTING: Final = 2


def restrict(conditions: Conditions, filters: Mapping[str, Any] | None, column: str) -> None:
    """Add a filter to a statement's conditions.

    Args:
        conditions: Those of the statement.
        filters: What the handler returned; None or empty allows all.
        column: The metadata column, such as "thread.metadata".

    Raises:
        HTTPException: 500, the filter is malformed.
    """
    if filters:
        conditions.add(_compile(conditions, filters, column, 0))


def allows(metadata: Mapping[str, Any], filters: Mapping[str, Any] | None) -> bool:
    """Apply a filter to metadata that is here already, with the meaning that `restrict` has in SQL.

    Raises:
        HTTPException: 500, the filter is malformed.
    """
    return not filters or _matches(metadata, filters, 0)


def _compile(conditions: Conditions, filters: Mapping[str, Any], column: str, nesting: int) -> str:
    _check_nesting(nesting)
    parts: list[str] = []
    for name, wanted in filters.items():
        if name in ("$or", "$and"):
            groups = [_compile(conditions, group, column, nesting + 1) for group in _groups(name, wanted)]
            parts.append("(" + (" OR " if name == "$or" else " AND ").join(groups) + ")")
            continue
        operator, value = _operator(name, wanted)
        if operator == "$eq":
            # Containment uses the index; equality then makes sure that a nested object has nothing more.
            both = conditions.value(orjson.dumps({name: value}).decode())
            exact = conditions.value(orjson.dumps(value).decode())
            at = conditions.value(name)
            parts.append(f"({column} @> {both}::jsonb AND {column} -> {at}::text = {exact}::jsonb)")
        else:
            held = value if isinstance(value, list) else [value]
            listed = conditions.value(orjson.dumps({name: held}).decode())
            at = conditions.value(name)
            parts.append(f"({column} @> {listed}::jsonb AND jsonb_typeof({column} -> {at}::text) = 'array')")
    return "(" + " AND ".join(parts) + ")" if parts else "true"


def _matches(metadata: Mapping[str, Any], filters: Mapping[str, Any], nesting: int) -> bool:
    _check_nesting(nesting)
    # Every part is looked at, so that a malformed one is an error whatever the others say.
    results: list[bool] = []
    for name, wanted in filters.items():
        if name in ("$or", "$and"):
            found = [_matches(metadata, group, nesting + 1) for group in _groups(name, wanted)]
            results.append(any(found) if name == "$or" else all(found))
            continue
        operator, value = _operator(name, wanted)
        if operator == "$eq":
            results.append(name in metadata and metadata[name] == value)
        else:
            held = value if isinstance(value, list) else [value]
            have = metadata.get(name)
            results.append(isinstance(have, list) and all(item in have for item in held))
    return all(results)


def _operator(name: str, wanted: Any) -> tuple[str, Any]:
    if name.startswith("$"):
        raise _malformed(f"the operator {name} is not known")
    if not isinstance(wanted, Mapping):
        return "$eq", wanted
    if len(wanted) != 1:
        raise _malformed(f"'{name}' needs exactly one operator, $eq or $contains")
    ((operator, value),) = wanted.items()
    if operator not in ("$eq", "$contains"):
        raise _malformed(f"the operator {operator} of '{name}' is not known; use $eq or $contains")
    return str(operator), value


def _groups(name: str, wanted: Any) -> list[Mapping[str, Any]]:
    if not isinstance(wanted, list) or len(wanted) < 2 or not all(isinstance(g, Mapping) for g in wanted):
        raise _malformed(f"{name} needs a list of at least two filters")
    return wanted


def _check_nesting(nesting: int) -> None:
    if nesting > MAX_NESTING:
        raise _malformed(f"operators are nested more than {MAX_NESTING} deep")


def _malformed(why: str) -> HTTPException:
    return HTTPException(
        status_code=500, detail=f"Your auth handler returned a filter that is not valid: {why}."
    )
