"""What the doctor finds: one line for each thing it looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """The server starts; somebody should look at it."""
    PROBLEM = "problem"
    """The server does not start, or not as it should."""


@dataclass(frozen=True)
class Finding:
    """What was looked at, and what there was to see."""

    check: str
    level: Level
    says: str
    cure: str = ""
    """What to do about it."""
    details: tuple[str, ...] = ()
    """Further lines, such as a sum and its parts."""

    def lines(self) -> list[str]:
        """For people to read."""
        text = f"{self.level:<8} {self.check:<15} {self.says}"
        indent = " " * 25
        more = [*self.details, f"→ {self.cure}"] if self.cure else self.details
        return [text, *(indent + each for each in more)]

    def as_json(self) -> dict[str, Any]:
        """For programs to read."""
        return asdict(self)


def ok(check: str, says: str, *details: str) -> Finding:
    """Nothing is wrong."""
    return Finding(check, Level.OK, says, details=details)


def warning(check: str, says: str, cure: str, *details: str) -> Finding:
    """Something that should be looked at."""
    return Finding(check, Level.WARNING, says, cure, details)


def problem(check: str, says: str, cure: str = "", *details: str) -> Finding:
    """Something that must be put right."""
    return Finding(check, Level.PROBLEM, says, cure, details)
