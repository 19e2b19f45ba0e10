"""The import itself: all that a source has, one thing after the other, each after what it needs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson

from langgraph_runtime_holdfast.database import Handle
from langgraph_runtime_holdfast.moving import items, others
from langgraph_runtime_holdfast.moving.choice import read_rules
from langgraph_runtime_holdfast.moving.content import NotTakenError, OldItem, Source
from langgraph_runtime_holdfast.moving.report import Report
from langgraph_runtime_holdfast.moving.session import graphs
from langgraph_runtime_holdfast.moving.threads import take_thread

Progress = Callable[[Report], None]


@dataclass(frozen=True)
class Wishes:
    """How to import."""

    is_dry: bool = False
    graphs: list[str] = field(default_factory=list)
    """What `--graph` says."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """For each thread that is brought."""
    enables_crons: bool = False


async def bring_all(handle: Handle, source: Source, wishes: Wishes, report: Report, show: Progress) -> None:
    """Bring everything; what cannot be brought is in the report.

    Raises:
        EngineError: Nothing more can be brought; what was is here, and a second import goes on.
    """
    rules = read_rules(wishes.graphs, graphs())
    standing = 0
    async with aclosing(source.assistants()) as assistants:  # type: ignore[type-var]
        async for assistant in assistants:
            try:
                is_new = await others.take_assistant(handle, assistant, is_dry=wishes.is_dry)
                (report.take if is_new else report.pass_over)("assistants")
            except NotTakenError as error:
                report.leave("assistants", assistant.assistant_id, error)
    async with aclosing(source.threads()) as threads:  # type: ignore[type-var]
        async for thread in threads:
            try:
                result = await take_thread(
                    handle, source, thread, rules, wishes.metadata, is_dry=wishes.is_dry
                )
                (report.take if result.is_new else report.pass_over)("threads")
                standing += result.stands and not thread.is_error
            except NotTakenError as error:
                report.leave("threads", thread.thread_id, error)
            show(report)
    if standing:
        report.note(
            f"{standing} threads stand before a node and ask nobody: their graph stops there, or a run "
            "was on them. They are interrupted here, and go on with input=None."
        )
    await _bring_crons(handle, source, wishes, report)
    await _bring_items(handle, source, report, show)
    report.notes += [note for note in source.notes if note not in report.notes]


async def _bring_crons(handle: Handle, source: Source, wishes: Wishes, report: Report) -> None:
    paused = 0
    async with aclosing(source.crons()) as crons:  # type: ignore[type-var]
        async for cron in crons:
            paused += cron.is_enabled and not wishes.enables_crons
            try:
                is_new = await others.take_cron(
                    handle, cron, is_dry=wishes.is_dry, enables=wishes.enables_crons
                )
                (report.take if is_new else report.pass_over)("crons")
            except NotTakenError as error:
                report.leave("crons", cron.cron_id, error)
    if paused:
        report.note(
            f"{paused} crons are disabled here, because the source still fires them. Stop the source, then "
            "import once more with --enable-crons."
        )


async def _bring_items(handle: Handle, source: Source, report: Report, show: Progress) -> None:
    batch: list[OldItem] = []
    size = 0
    async with aclosing(source.items()) as found:  # type: ignore[type-var]
        async for item in found:
            batch.append(item)
            size += len(orjson.dumps(item.value))
            if size > items.MOST_BYTES or len(batch) >= items.MOST_ITEMS:
                await items.take_items(handle, batch, report)
                show(report)
                batch, size = [], 0
    if batch:
        await items.take_items(handle, batch, report)
