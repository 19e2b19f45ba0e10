"""What this engine brings to a database: migrations in order, and the SQL functions that it calls.

A migration runs once. A function has a number in its name and is created where it is missing, never changed:
servers of the version before call theirs while those of this version call these. docs/upgrading.md has the
rules for who adds one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from langgraph_runtime_holdfast.foreign import FOLDER

FUNCTIONS: Final = Path(__file__).parent / "functions"
LAST_OF_THE_FIRST_TABLE: Final = 5
"""Up to here migrations are recorded in `holdfast_migration`, which engines that know no later one refuse if
it has more; from here on in `holdfast_schema`, which they do not look at."""
_MINIMUM: Final = re.compile(r"^-- Minimum version: (\d+)$", re.MULTILINE)
_COMMENT: Final = re.compile(r"--[^\n]*")
_CONCURRENT: Final = re.compile(
    r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS \w+ |DROP INDEX CONCURRENTLY IF EXISTS \w+$"
)


@dataclass(frozen=True)
class Migration:
    """One file of migrations."""

    version: int
    name: str
    text: str
    minimum_version: int
    """The oldest engine, by the newest migration that it knows, which can serve on the schema after it."""
    alone: tuple[str, ...]
    """Statements that no transaction may be around: indexes that are made beside the traffic. Mostly none."""

    @classmethod
    def read(cls, path: Path) -> Migration:
        """Read a file.

        Raises:
            ValueError: It breaks a rule; names the file and the rule.
        """
        version, text = int(path.name[:4]), path.read_text(encoding="utf-8")
        told = _MINIMUM.search(text)
        if told is None and version > LAST_OF_THE_FIRST_TABLE:
            raise ValueError(f"{path.name}: it needs a line '-- Minimum version: N'; see docs/upgrading.md")
        minimum = int(told[1]) if told else version
        if minimum > version:
            raise ValueError(f"{path.name}: no engine could serve on it; the minimum is {version} at most")
        return cls(version, path.stem, text, minimum, _statements_alone(path.name, text))


def _statements_alone(name: str, text: str) -> tuple[str, ...]:
    code = _COMMENT.sub("", text)
    if "CONCURRENTLY" not in code:
        return ()
    found = tuple(re.sub(r"\s+", " ", each).strip() for each in code.split(";") if each.strip())
    for statement in found:
        if not _CONCURRENT.match(statement):
            raise ValueError(
                f"{name}: beside CREATE INDEX CONCURRENTLY IF NOT EXISTS and DROP INDEX CONCURRENTLY IF "
                "EXISTS nothing else is in such a file, since what broke off is repeated"
            )
    return found


def migrations() -> list[Migration]:
    """The migrations that this engine has, by version."""
    return [Migration.read(path) for path in sorted(FOLDER.glob("[0-9][0-9][0-9][0-9]_*.sql"))]


def functions() -> dict[str, str]:
    """The functions that this engine calls: what creates each, by name."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(FUNCTIONS.glob("*_v*.sql"))}
