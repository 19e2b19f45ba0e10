"""What a backup says of itself: from when it is, what is in it, and what its files must be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from langgraph_runtime_holdfast.errors import EngineError

FILE: Final = "manifest.json"
DUMP: Final = "dump"
"""The folder in which pg_dump has put the data."""
_FORMAT: Final = 1
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Migration:
    """One that the database had."""

    table: str
    """`holdfast_migration` or `holdfast_schema`."""
    version: int
    name: str
    minimum_version: int | None
    applied_at: str


@dataclass(frozen=True)
class Manifest:
    """The manifest of a backup."""

    recovery_point: str
    """What was acknowledged before this moment of the database's clock is in it."""
    took_seconds: float
    engine: str
    server_major: int
    dumped_by: int
    """The version of pg_dump; pg_restore must not be older."""
    database: str
    schema: str
    """Where the tables are, mostly `public`."""
    migrations: list[Migration]
    is_paused: bool
    in_flight: int
    """Runs that waited or ran."""
    undelivered: int
    """Callbacks that were still to be sent."""
    tables: dict[str, int]
    """The rows of each, by `schema.table`."""
    files: dict[str, str]
    """The SHA-256 of each."""
    size_bytes: int

    @property
    def version(self) -> int:
        """The newest migration that it has."""
        return max(each.version for each in self.migrations)

    @property
    def minimum_version(self) -> int:
        """The oldest engine that can serve on it, by the newest migration that it knows."""
        return max(each.minimum_version or each.version for each in self.migrations)

    @property
    def moment(self) -> datetime:
        """The recovery point."""
        return datetime.fromisoformat(self.recovery_point)

    def write(self, folder: Path) -> None:
        """Put it beside the data."""
        text = json.dumps({"format": _FORMAT, **asdict(self)}, indent=2)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    def lines(self) -> Iterator[str]:
        """For people to read."""
        yield f"recovery point   {self.moment:%Y-%m-%d %H:%M:%S.%f %Z}; it took {self.took_seconds:.0f} s"
        yield f"schema           version {self.version}, for engines that know {self.minimum_version}"
        yield f"from             database {self.database}, Postgres {self.server_major}, engine {self.engine}"
        yield f"size             {self.size_bytes / 1e6:.1f} MB in {len(self.files)} files"
        paused = "; it was paused" if self.is_paused else ""
        yield f"under way        {self.in_flight} runs, {self.undelivered} callbacks to send{paused}"
        for table, rows in sorted(self.tables.items()):
            if rows:
                yield f"rows             {rows:>10} {table}"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup.

    Raises:
        EngineError: It is none, or one of an engine that is newer.
    """
    try:
        found: Any = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        unfinished = " It was not finished." if folder.name.endswith(".unfinished") else ""
        raise EngineError(f"{folder} is not a backup: it has no {FILE}.{unfinished}") from None
    except (OSError, ValueError) as error:
        raise EngineError(f"{folder / FILE} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise EngineError(f"{folder / FILE} is damaged: it is not an object.")
    if found.pop("format", None) != _FORMAT:
        raise EngineError(f"{folder} was made by another engine's `backup`; restore it with that one.")
    try:
        manifest = TypeAdapter(Manifest).validate_python(found)
        _ = manifest.moment, manifest.minimum_version
    except ValueError as error:
        raise EngineError(f"{folder / FILE} is damaged: {' '.join(str(error).split())}") from error
    return manifest


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in the dump."""
    return {path.name: _hash(path) for path in sorted((folder / DUMP).iterdir())}


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare each file with what it was.

    Raises:
        EngineError: One is missing, was added or has changed.
    """
    found = hashes(folder) if (folder / DUMP).is_dir() else {}
    wrong = sorted(name for name in {*found, *manifest.files} if found.get(name) != manifest.files.get(name))
    if wrong:
        more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
        raise EngineError(
            f"{folder} is damaged: {DUMP}/{wrong[0]}{more} is not as it was written. Use another backup."
        )


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
