"""What a profile showed, as it is kept for the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from benchmarks.setting import HOME
from benchmarks.stacks import Share

PROFILE_PATH = HOME / "profile.json"


@dataclass(frozen=True)
class Cost:
    """A statement, and what one run costs of it."""

    text: str
    per_run: float
    milliseconds_per_run: float
    """Of Postgres' time."""


@dataclass(frozen=True)
class Profile:
    """Where the time goes when the default engine serves thread_wait."""

    date: str
    clients: int
    per_second: float
    """While py-spy was looking, which costs some."""
    packages: dict[str, list[Share]]
    """By process: server, client."""
    functions: dict[str, list[Share]]
    statements: list[Cost]
    """The dearest."""
    statements_per_run: float
    """Of all."""
    milliseconds_per_run: float

    def write(self, path: Path = PROFILE_PATH) -> None:
        """Keep it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(TypeAdapter(Profile).dump_json(self, indent=1))

    @classmethod
    def read(cls, path: Path = PROFILE_PATH) -> Profile | None:
        """Read what `write` wrote; None when nothing was, or by another version of this module."""
        try:
            return TypeAdapter(Profile).validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
