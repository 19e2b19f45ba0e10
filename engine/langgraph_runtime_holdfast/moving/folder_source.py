"""What `holdfast export` has written, read line by line."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
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
    copies_rows = True

    def __init__(self, folder: Path, counts: dict[str, int]) -> None:
        """Read this folder, which has as many of each kind as its manifest says."""
        self._folder = folder
        self._counts = counts
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
        if not isinstance(manifest, dict) or not isinstance(manifest.get("counts"), dict):
            raise EngineError(f"{folder} is not an export: {MANIFEST} does not say what is in it.")
        if manifest.get("format") != FORMAT:
            raise EngineError(
                f"{folder} has the format {manifest.get('format')}, and {FORMAT} is read here. Use a newer "
                "engine."
            )
        yield cls(folder, manifest["counts"])

    async def threads(self) -> AsyncIterator[OldThread]:
        """Each thread; its rows follow in the file, and are passed over if nobody reads them."""
        self._lines = self._read("threads")
        found = 0
        for line in self._lines:
            if isinstance(line, dict) and "thread" in line:
                found += 1
                yield self._made(OldThread, line["thread"])
        self._check_count("threads", found)

    async def write(self, thread: OldThread, tx: Transaction, new_id: UUID, graph_id: str) -> None:
        """Write the rows that follow."""
        line = next(self._lines, None)
        while isinstance(line, list):
            table = line[0] if line else ""
            if table not in rows.TABLES:
                raise NotTakenError(f"the export has rows of a table {table}, which is not known here")

            async def of_table(first: list[Any], name: str) -> AsyncIterator[tuple[Any, ...]]:
                nonlocal line
                line = first
                while isinstance(line, list) and line[:1] == [name]:
                    yield self._row(line)
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
        for line in self._objects("assistants"):
            yield self._made(OldAssistant, line)

    async def crons(self) -> AsyncIterator[OldCron]:
        """Each cron."""
        for line in self._objects("crons"):
            yield self._made(OldCron, line)

    async def items(self) -> AsyncIterator[OldItem]:
        """Each item."""
        for line in self._objects("items"):
            item = self._made(OldItem, line)
            yield replace(item, namespace=tuple(item.namespace))

    def _objects(self, name: str) -> Iterator[Any]:
        found = 0
        for line in self._read(name):
            found += 1
            yield line
        self._check_count(name, found)

    def _check_count(self, name: str, found: int) -> None:
        # A file that was cut off between two lines looks whole.
        if found != (wanted := self._counts.get(name, 0)):
            raise EngineError(
                f"{self._folder} is damaged: {name}.jsonl has {found} {name}, and {wanted} were exported."
            )

    def _made(self, kind: type[T], line: Any) -> T:
        try:
            return _made(kind, line)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = kind.__name__.removeprefix("Old").lower()
            raise EngineError(
                f"{self._folder} is damaged: {str(line)[:80]} is no {what} ({error})."
            ) from error

    def _row(self, line: list[Any]) -> tuple[Any, ...]:
        try:
            row = tuple(_value(each) for each in line[1:])
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(f"{self._folder} is damaged: a value is not base64 ({error}).") from error
        if len(row) != rows.WIDTHS[line[0]]:
            raise EngineError(f"{self._folder} is damaged: a row of {line[0]} has {len(row)} columns.")
        return row

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
    return base64.b64decode(value["bytes"], validate=True) if isinstance(value, dict) else value
