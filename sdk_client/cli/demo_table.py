"""The demo's table: one row a run, live on a terminal, plain text everywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sdk_client.cli.output import Output, plain_table, printable

UUID_CHARACTERS = 36
SHORT_ID_CHARACTERS = 9
UNLIMITED = 1000
"""Columns to measure the table in; rich would measure it as cut to the console."""


@dataclass
class Row:
    """One run of the demo and what became of it."""

    agent: str
    conversation_id: str
    thread_id: str | None = None
    run_id: str | None = None
    status: str = "submitting"
    answer: str = ""
    callback: dict[str, Any] | None = None
    """The receiver's row, once the receiver has verified it with the server."""
    completed: bool = False
    """Whether the run came to an end or a pause, well or not: then a callback is due."""
    callback_missing: bool = False
    """Whether the wait for it was given up."""
    failures: list[str] = field(default_factory=list)
    """What failed and where to look; empty when all went well."""
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds from the submission to the end of the run, or to now."""
        return (self.ended or time.monotonic()) - self.started

    def end(self, status: str, failure: str | None = None) -> None:
        """Stop the clock and keep how it ended."""
        self.ended = time.monotonic()
        self.status = status
        if failure is not None:
            self.failures.append(failure)

    def as_json(self) -> dict[str, Any]:
        """What --json tells of this run."""
        hidden = {"started", "ended", "completed", "callback_missing"}
        told = {name: value for name, value in vars(self).items() if name not in hidden}
        return {**told, "seconds": round(self.seconds, 2), "callback_received": self.callback is not None}


class Board:
    """The rows of a demo, in the order in which they were added."""

    def __init__(self, output: Output) -> None:
        """Show progress where `output` has it."""
        self.rows: list[Row] = []
        self._output = output

    def add(self, row: Row) -> Row:
        """Put one more run on the table, a resumed one under the one it resumes."""
        same = [
            index for index, other in enumerate(self.rows) if other.conversation_id == row.conversation_id
        ]
        self.rows.insert(same[-1] + 1 if same else len(self.rows), row)
        return row

    def changed(self, row: Row) -> None:
        """Tell of a row's new status where no live table shows it."""
        if not self._output.progress.is_terminal:
            self._output.note(f"  {row.seconds:5.1f} s  {row.agent}: {row.status}")

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep the table on the terminal up to date inside this block, and clear it after."""
        console = self._output.progress
        if self._output.as_json or not console.is_terminal:
            yield
            return
        # A terminal with fewer lines than rows would otherwise show "..." in place of the last ones.
        with Live(
            get_renderable=lambda: fit(self.rows, console),
            console=console,
            refresh_per_second=5,
            transient=True,
            vertical_overflow="crop",
        ):
            yield


def fit(rows: Sequence[Row], console: Console) -> Table:
    """Draw the table with as much of the ids as the console is wide.

    The thread is cut first, because a conversation id finds it again; then the front of the run ids, which
    the runs of one minute have in common.
    """
    widths = ((UUID_CHARACTERS, UUID_CHARACTERS), (SHORT_ID_CHARACTERS, UUID_CHARACTERS))
    for thread_width, run_width in widths:
        table = _draw(rows, thread_width, run_width)
        unlimited = console.options.update(max_width=UNLIMITED)
        if console.measure(table, options=unlimited).maximum <= console.width:
            return table
    return _draw(rows, SHORT_ID_CHARACTERS, SHORT_ID_CHARACTERS)


def _draw(rows: Sequence[Row], thread_width: int, run_width: int) -> Table:
    table = plain_table()
    for name in ("agent", "thread", "run", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("callback", no_wrap=True)
    for row in rows:
        table.add_row(
            row.agent,
            _front(row.thread_id or "", thread_width),
            _back(row.run_id or "", run_width),
            printable(row.status),
            f"{row.seconds:.1f}",
            _callback(row),
            style="red" if row.failures else None,
        )
    return table


def _callback(row: Row) -> str:
    if row.callback is not None:
        return "received"
    if not row.completed:
        return ""
    return "missing" if row.callback_missing else "awaited"


def _front(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _back(text: str, width: int) -> str:
    return text if len(text) <= width else f"…{text[1 - width :]}"
