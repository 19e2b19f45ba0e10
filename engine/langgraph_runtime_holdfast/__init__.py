"""Holdfast's engine: a runtime of the stock LangGraph server that keeps everything in Postgres.

The server imports this package when LANGGRAPH_RUNTIME_EDITION is "holdfast" and takes the modules below from
it. They are imported when they are asked for, because they need the server's own modules, which `local/` (the
stack that `make run` starts) does not.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.1.0"

RUNTIME_MODULES = (
    "checkpoint",
    "database",
    "lifespan",
    "metrics",
    "ops",
    "queue",
    "retry",
    "routes",
    "store",
)


def __getattr__(name: str) -> ModuleType:
    if name in RUNTIME_MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
