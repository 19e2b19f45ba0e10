"""What `holdfast export` has written, read line by line."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import UUID

import orjson

from langgraph_runtime_holdfast.database import Transaction
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.moving import rows
from langgraph_runtime_holdfast.moving.content import (
    NotTakenError,
    OldAssistant,
    OldCron,
    OldItem,
    OldThread,
)
from langgraph_runtime_holdfast.moving.export import FORMAT, MANIFEST

T = TypeVar("T", OldThread, OldAssistant, OldCron, OldItem)


class FolderSource:
    """A folder of an export."""

    kind = "export"

    def __init__(self, folder: Path) -> None:
        """Read this folder."""
        self._folder = folder
        self._lines: Iterator[Any] = iter(())
        self.notes: list[str] = []

    @classmethod
    @asynccontextmanager
    async def opened(cls, folder: Path) -> AsyncIterator[Self]:
        """Open it.

        Raises:
            EngineError: It is no export, or of another version.
        """
        try:
            manifest = orjson.loads((folder / MANIFEST).read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise EngineError(f"{folder} is not an export: {MANIFEST} cannot be read ({error}).") from error
        if manifest.get("format") != FORMAT:
            raise EngineError(
                f"{folder} has the format {manifest.get('format')}, and {FORMAT} is read here. Use a newer "
                "engine."
            )
        yield cls(folder)

    async def threads(self) -> AsyncIterator[OldThread]:
        """Each thread; its rows follow in the file, and are passed over if nobody reads them."""
        self._lines = self._read("threads")
        for line in self._lines:
            if isinstance(line, dict) and "thread" in line:
                yield _made(OldThread, line["thread"])

    async def write(self, thread: OldThread, tx: Transaction, new_id: UUID, graph_id: str) -> None:
        """Write the rows that follow."""
        line = next(self._lines, None)
        while isinstance(line, list):
            table = line[0]
            if table not in rows.TABLES:
                raise NotTakenError(f"the export has rows of a table {table}, which is not known here")

            async def of_table(first: list[Any], name: str) -> AsyncIterator[tuple[Any, ...]]:
                nonlocal line
                line = first
                while isinstance(line, list) and line[0] == name:
                    yield tuple(_value(each) for each in line[1:])
                    line = next(self._lines, None)

            await rows.write_rows(tx, table, new_id, of_table(line, table))
        if not isinstance(line, dict) or line.get("end") != thread.thread_id:
            raise EngineError(f"{self._folder} is damaged: the thread {thread.thread_id} has no end.")

    async def difference(self, thread: OldThread, tx: Transaction, new_id: UUID, graph_id: str) -> str:
        """Compare every row by its digest, which the export has kept."""
        here = await rows.fingerprint(tx, new_id)
        return "" if here == thread.fingerprint else "its checkpoints are others"

    async def assistants(self) -> AsyncIterator[OldAssistant]:
        """Each assistant."""
        for line in self._read("assistants"):
            yield _made(OldAssistant, line)

    async def crons(self) -> AsyncIterator[OldCron]:
        """Each cron."""
        for line in self._read("crons"):
            yield _made(OldCron, line)

    async def items(self) -> AsyncIterator[OldItem]:
        """Each item."""
        for line in self._read("items"):
            yield _made(OldItem, {**line, "namespace": tuple(line["namespace"])})

    def _read(self, name: str) -> Iterator[Any]:
        path = self._folder / f"{name}.jsonl"
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    try:
                        yield orjson.loads(line)
                    except orjson.JSONDecodeError as error:
                        raise EngineError(f"{path} is damaged: line {number} is not JSON.") from error
        except OSError as error:
            raise EngineError(f"{path} cannot be read: {error}") from error


def _made(kind: type[T], line: dict[str, Any]) -> T:
    known = {field.name for field in fields(kind)}
    given = {name: value for name, value in line.items() if name in known}
    for name in ("created_at", "updated_at", "end_time", "expires_at"):
        if given.get(name):
            given[name] = datetime.fromisoformat(given[name])
    return kind(**given)


def _value(value: Any) -> Any:
    return base64.b64decode(value["bytes"]) if isinstance(value, dict) else value
