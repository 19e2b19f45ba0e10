"""Everything as JSON lines in a folder, which has its name only when all of it is on disk.

    manifest.json      what it is, and how much
    assistants.jsonl   an object each
    crons.jsonl
    items.jsonl        of the store
    threads.jsonl      a thread, then each of its rows as a list after the name of its table, then its end

Values of states are bytes as LangGraph's library serialises them, in base64: nothing is lost on the way.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.moving import rows
from langgraph_runtime_holdfast.moving.content import OldThread
from langgraph_runtime_holdfast.moving.own_source import OwnSource
from langgraph_runtime_holdfast.moving.report import Report

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"


async def export(source: OwnSource, folder: Path, report: Report) -> None:
    """Write everything to a folder that is not there yet.

    Raises:
        EngineError: It is there, or cannot be written.
    """
    if await asyncio.to_thread(folder.exists):
        raise EngineError(f"{folder} exists already; name another folder.")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700, parents=True)
        for name in ("assistants", "crons", "items"):
            with (unfinished / f"{name}.jsonl").open("wb") as file:
                async for each in getattr(source, name)():
                    _write(file, asdict(each))
                    report.take(name)
                _keep(file)
        with (unfinished / "threads.jsonl").open("wb") as file:
            async for thread in source.threads():
                if thread.fault:
                    report.leave("threads", thread.thread_id, thread.fault)
                    continue
                await _write_thread(file, source, thread)
                report.take("threads")
            _keep(file)
        manifest = {"format": FORMAT, "made_at": datetime.now(UTC), "counts": dict(report.taken)}
        (unfinished / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        unfinished.rename(folder)
    except OSError as error:
        raise EngineError(f"{folder} cannot be written: {error}") from error


async def _write_thread(file: BinaryIO, source: OwnSource, thread: OldThread) -> None:
    _write(file, {"thread": asdict(thread)})
    for table in rows.TABLES:
        async for row in rows.read_rows(source.connection, table, thread.thread_id, has_paths=True):
            # The last of a value's columns is its bytes.
            _write(file, [table, *(_text(value) for value in row)])
    _write(file, {"end": thread.thread_id})


def _text(value: Any) -> Any:
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _keep(file: BinaryIO) -> None:
    """See that it is on disk; that there was no room for it may only be told now."""
    file.flush()
    os.fsync(file.fileno())


def _write(file: BinaryIO, line: Any) -> None:
    file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
