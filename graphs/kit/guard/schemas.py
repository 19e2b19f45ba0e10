"""Guard, schema part: whether the server can say what a graph takes, returns and is configured by.

The server answers `/assistants/{id}/schemas` with null for a schema that cannot be made, and logs a warning.
Studio and other front ends then draw no form.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any, Final, get_args

from langgraph.pregel import Pregel

from .factory import describe
from .state import field_types, has_fields

SCHEMAS: Final = ("input", "output", "context")


def missing_schemas(graph: Pregel[Any, Any, Any, Any]) -> Iterator[str]:
    """Yield one line for each schema that would be null. A graph need not have a context schema."""
    for name in SCHEMAS:
        try:
            # What the server itself calls.
            getattr(graph, f"get_{name}_jsonschema")()
        except Exception as error:
            yield f"its {name} schema is null: {_reason(graph, error)}"


def _reason(graph: Pregel[Any, Any, Any, Any], error: Exception) -> str:
    if getattr(error, "code", None) != "typed-dict-version":
        return describe(error)
    # pydantic says what to write, but not where.
    builder = getattr(graph, "builder", None)
    schemas = [*getattr(builder, "schemas", ()), getattr(graph, "context_schema", None)]
    found = sorted({f"{each.__module__}.{each.__qualname__}" for each in _stale(schemas)})
    return f"{', '.join(found) or 'a class'} is a typing.TypedDict, which needs Python 3.12"


def _stale(annotations: typing.Iterable[Any]) -> Iterator[type]:
    """Every `typing.TypedDict` in annotations and the fields of their classes."""
    waiting, seen = list(annotations), list[Any]()
    while waiting:
        annotation = waiting.pop()
        if annotation in seen:
            continue
        seen.append(annotation)
        waiting += get_args(annotation)
        if typing.is_typeddict(annotation):  # which that of typing_extensions is not, before Python 3.12
            yield annotation
        if isinstance(annotation, type) and has_fields(annotation):
            waiting += field_types(annotation).values()
