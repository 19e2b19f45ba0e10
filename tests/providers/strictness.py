"""What the fakes have in common when they check a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class RefusedError(Exception):
    """The provider would not take this request."""

    status: int
    kind: str
    message: str
    parameter: str | None = None
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


def mapping(value: Any) -> Json:
    """The value if it is an object, else an empty one, whose missing keys are then complained about."""
    return dict(value) if isinstance(value, Mapping) else {}


def is_schema_of_object(value: Any) -> bool:
    """Whether this can be a tool's parameters."""
    return isinstance(value, Mapping) and value.get("type") == "object"
