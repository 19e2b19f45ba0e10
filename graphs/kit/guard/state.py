"""Guard, state part: which keys of a graph's state hold something that a checkpoint cannot.

What is allowed is what the server's serialiser (msgpack, without pickle) writes and reads back, and what its
JSON answers can show. Types are read from annotations; values are never looked at.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import threading
import types
import typing
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

import typing_extensions
from langchain_core.messages import BaseMessage
from langgraph.channels import UntrackedValue
from langgraph.func import entrypoint
from langgraph.managed.base import is_managed_value
from langgraph.pregel import Pregel
from pydantic import BaseModel

SCALARS: Final = (
    str,
    bytes,
    bytearray,
    int,
    float,
    type(None),
    datetime,
    date,
    time,
    timedelta,
    UUID,
    Decimal,
)
CONTAINERS: Final = (list, tuple, set, frozenset, dict, collections.deque)
ABSTRACT_CONTAINERS: Final = (
    collections.abc.Collection,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Mapping,
    collections.abc.MutableMapping,
    collections.abc.Set,
    collections.abc.MutableSet,
)
QUALIFIERS: Final = (
    typing.Annotated,
    typing.Required,
    typing.NotRequired,
    typing.Final,
    typing_extensions.Required,
    typing_extensions.NotRequired,
    typing_extensions.ReadOnly,
)
# langgraph's own channels carry its routing and the raw input, not keys that an author declared.
PRIVATE_CHANNELS: Final = ("branch:to:", "join:", "__start__", "__pregel_")


def unserialisable_keys(graph: Pregel[Any, Any, Any, Any]) -> Iterator[str]:
    """Yield one line for each state key that cannot be checkpointed, naming the key and the type."""
    found: dict[str, None] = {}  # a key is in several schemas: the state, the input, nodes' own inputs
    for key, annotation in _state_annotations(graph):
        found |= {
            f"state key {key!r} holds {what}": None for what in _unserialisable(annotation, frozenset())
        }
    yield from sorted(found)


def _state_annotations(graph: Pregel[Any, Any, Any, Any]) -> Iterator[tuple[str, Any]]:
    builder = getattr(graph, "builder", None)
    if builder is None:
        yield from _channel_annotations(graph)
        return
    for schema, declared in builder.schemas.items():
        # From the schema rather than the channels: reducers' channels drop what is inside list[...].
        hints = {"__root__": schema} if "__root__" in declared else field_types(schema)
        for key, annotation in hints.items():
            # UntrackedValue is the channel for what must not be checkpointed; managed values are computed.
            if not isinstance(builder.channels.get(key), UntrackedValue) and key not in builder.managed:
                yield key, annotation


def _channel_annotations(graph: Pregel[Any, Any, Any, Any]) -> Iterator[tuple[str, Any]]:
    """A graph without a StateGraph behind it (`@entrypoint`, or Pregel itself) has only its channels."""
    for key, channel in graph.channels.items():
        if (
            key.startswith(PRIVATE_CHANNELS)
            or is_managed_value(channel)
            or isinstance(channel, UntrackedValue)
        ):
            continue
        annotation = getattr(channel, "ValueType", Any)
        yield key, _returned(graph) if isinstance(annotation, str) else annotation


def _returned(graph: Pregel[Any, Any, Any, Any]) -> Any:
    # `@entrypoint` keeps the return annotation as written, a string under postponed evaluation.
    for node in graph.nodes.values():
        function = getattr(node.bound, "afunc", None) or getattr(node.bound, "func", None)
        if function is not None:
            return field_types(function).get("return", Any)
    return Any


def _unserialisable(annotation: Any, seen: frozenset[Any]) -> Iterator[str]:
    """Yield a description of every part of the annotation that is not allowed."""
    # Nothing can be known from Any and object; a value that does not serialise then fails its run, clearly.
    if annotation is Any or annotation is object or annotation is None:
        return
    if isinstance(annotation, str | typing.ForwardRef) and _is_inside(annotation, seen):
        return
    origin = get_origin(annotation)
    if origin in (Literal, typing_extensions.Literal, typing.ClassVar):
        return
    if origin in QUALIFIERS:
        yield from _unserialisable(get_args(annotation)[0], seen)
    elif origin in (Union, types.UnionType, entrypoint.final):
        yield from _any_of(get_args(annotation), seen)
    elif isinstance(annotation, TypeVar):
        yield from _any_of((annotation.__bound__, *annotation.__constraints__), seen)
    elif isinstance(annotation, typing.NewType):
        yield from _unserialisable(annotation.__supertype__, seen)
    elif hasattr(annotation, "__value__"):  # `type X = ...`, which may name itself
        if annotation not in seen:
            yield from _unserialisable(annotation.__value__, seen | {annotation})
    elif hasattr(origin, "__value__"):
        yield from _any_of((origin, *get_args(annotation)), seen)
    elif isinstance(origin or annotation, type):
        yield from _unserialisable_class(origin or annotation, get_args(annotation), seen)
    else:
        yield f"{_name(annotation)}, which does not serialise"


def _is_inside(reference: str | typing.ForwardRef, seen: frozenset[Any]) -> bool:
    """Whether a quoted name is that of an alias or class being looked into, as in pydantic's JsonValue."""
    name = reference if isinstance(reference, str) else reference.__forward_arg__
    return any(getattr(each, "__name__", None) == name for each in seen)


def _any_of(annotations: tuple[Any, ...], seen: frozenset[Any]) -> Iterator[str]:
    for annotation in annotations:
        if annotation is not Ellipsis:
            yield from _unserialisable(annotation, seen)


def _unserialisable_class(cls: type, args: tuple[Any, ...], seen: frozenset[Any]) -> Iterator[str]:
    if issubclass(cls, (*SCALARS, Enum, BaseMessage)) or is_managed_value(cls):
        return
    if cls in seen:
        return
    if has_fields(cls):
        for field, annotation in field_types(cls).items():
            found = _unserialisable(annotation, seen | {cls})
            yield from (f"{cls.__qualname__}.{field}: {inner}" for inner in found)
        yield from _any_of(args, seen)
    elif issubclass(cls, CONTAINERS) or cls in ABSTRACT_CONTAINERS:
        yield from _any_of(args, seen)
    else:
        yield f"{_name(cls)}, which does not serialise"


def has_fields(cls: type) -> bool:
    """Whether a class declares its fields: a model, a dataclass, a TypedDict or a named tuple."""
    return (
        issubclass(cls, BaseModel)
        or dataclasses.is_dataclass(cls)
        or typing_extensions.is_typeddict(cls)
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    )


def field_types(cls: Any) -> dict[str, Any]:
    """The fields of such a class, or the parameters of a function, with their annotations resolved."""
    if isinstance(cls, type) and issubclass(cls, BaseModel):
        return {name: field.annotation for name, field in cls.model_fields.items()}
    try:
        hints = typing_extensions.get_type_hints(cls, include_extras=True)
    except NameError as error:
        return {f"(any key, since {error.name!r} is unknown at run time)": _UNRESOLVED}
    if dataclasses.is_dataclass(cls):
        return {field.name: hints.get(field.name, Any) for field in dataclasses.fields(cls)}
    return hints


_UNRESOLVED: Final = typing.ForwardRef("unresolved")


def _name(annotation: Any) -> str:
    if annotation is threading.Lock:  # a function of `_thread` before Python 3.13, and named accordingly
        return "threading.Lock"
    if annotation is _UNRESOLVED:
        return "a type that cannot be resolved"
    module = getattr(annotation, "__module__", None) or "builtins"
    name = getattr(annotation, "__qualname__", None) or repr(annotation)
    return name if module == "builtins" or "." in name else f"{module}.{name}"
