"""The store's search filters as SQL, with the meaning that they have in LangGraph's in-memory store.

    {"status": "open"}                    the key equals the value
    {"score": {"$gte": 1, "$lt": 5}}      $eq $ne $gt $gte $lt $lte, also $contains for a list
    {"author": {"name": "a"}}             the same inside a nested object
    {"$and": [{…}, {…}]}, {"$or": […]}    groups; the server joins a user's filter and the auth handler's so

Numbers compare as numbers and text as text; values of another type never match a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.exceptions import HTTPException

_DEEPEST: Final = 10
_COMPARISONS: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}

Compiled = tuple[str, list[Any]]


def compile_filter(wanted: Mapping[str, Any]) -> Compiled:
    """Build a condition on the column `value`, with its positional parameters.

    Raises:
        HTTPException: 422, an operator that is not known, or a filter nested too deep.
    """
    return _compile(wanted, [])


def _compile(wanted: Mapping[str, Any], path: list[str]) -> Compiled:
    if len(path) > _DEEPEST:
        raise _malformed(f"it is nested more than {_DEEPEST} deep")
    parts: list[Compiled] = []
    for name, value in wanted.items():
        if name in ("$and", "$or") and not path:
            if not isinstance(value, list) or not all(isinstance(group, Mapping) for group in value):
                raise _malformed(f"{name} needs a list of filters")
            groups = [_compile_group(group) for group in value]
            parts.append(_joined(groups, " AND " if name == "$and" else " OR "))
        elif "\x00" in name:
            raise _malformed("a key has a NUL character")
        else:
            parts.append(_compare([*path, name], value))
    return _joined(parts, " AND ")


def _compile_group(group: Mapping[str, Any]) -> Compiled:
    if "$and" in group or "$or" in group:
        raise _malformed("groups are nested")
    return _compile(group, [])


def _compare(path: list[str], wanted: Any) -> Compiled:
    if not isinstance(wanted, Mapping):
        return _operate(path, "$eq", wanted)
    if any(name.startswith("$") for name in wanted):
        return _joined([_operate(path, name, value) for name, value in wanted.items()], " AND ")
    inner, parameters = _compile(wanted, path)
    return f"(jsonb_typeof(value #> %s::text[]) = 'object' AND {inner})", [path, *parameters]


def _operate(path: list[str], operator: str, wanted: Any) -> Compiled:
    from langgraph_runtime_holdfast.ops.statement import json_text

    if operator in ("$eq", "$ne"):
        # A key that is not there counts as null.
        sign = "=" if operator == "$eq" else "<>"
        return f"coalesce(value #> %s::text[], 'null') {sign} %s::jsonb", [path, json_text(wanted)]
    if operator == "$contains":
        listed = json_text(wanted if isinstance(wanted, list) else [wanted])
        sql = "(jsonb_typeof(value #> %s::text[]) = 'array' AND value #> %s::text[] @> %s::jsonb)"
        return sql, [path, path, listed]
    if operator not in _COMPARISONS:
        known = ", ".join(("$eq", "$ne", *_COMPARISONS, "$contains"))
        raise _malformed(f"the operator {operator[:100]} is not known; there are {known}")
    if isinstance(wanted, bool) or not isinstance(wanted, int | float | str):
        raise _malformed(f"{operator} needs a number or text")
    kind = "string" if isinstance(wanted, str) else "number"
    cast = 'text COLLATE "C"' if kind == "string" else "numeric"
    if kind == "string" and "\x00" in str(wanted):
        raise _malformed("a value has a NUL character")
    # CASE, because the order in which AND looks at its parts is not certain, and text is no number.
    sql = (
        f"CASE WHEN jsonb_typeof(value #> %s::text[]) = '{kind}' "
        f"THEN (value #>> %s::text[])::{cast} {_COMPARISONS[operator]} %s::{cast} ELSE false END"
    )
    return sql, [path, path, str(wanted)]


def _joined(parts: list[Compiled], by: str) -> Compiled:
    if not parts:
        return "true", []
    sql = by.join(f"({sql})" for sql, _ in parts)
    return f"({sql})", [parameter for _, parameters in parts for parameter in parameters]


def _malformed(why: str) -> HTTPException:
    return HTTPException(status_code=422, detail=f"Invalid filter: {why}.")
