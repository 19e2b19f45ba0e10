"""What a person sees while a run goes on: the step, the seconds, and the text as it is written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from sdk_client.cli.output import Output, printable
from sdk_client.cli.render import message_text
from sdk_client.models import StreamEvent, StreamGap

SHOWN_CHARACTERS = 600
"""The end of the text that stays in view; all of it is printed when the run is over."""

STREAM_MODES = ("updates", "messages-tuple")
"""What the command asks a run to stream: each step, and each piece of text."""


class Progress:
    """Follows a run's events; shows them live on a terminal, a line a step elsewhere, nothing with --json."""

    def __init__(self, output: Output, waiting_for: str) -> None:
        """Start the clock; `waiting_for` is shown until the first step is known."""
        self._output = output
        self._step = waiting_for
        self._text = ""
        self._message_id: object = None
        self._started = time.monotonic()
        self._spinner = Spinner("dots")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the display up inside this block, and clear it after."""
        console = self._output.progress
        if self._output.as_json or not console.is_terminal:
            yield
            return
        with Live(
            get_renderable=self._draw,
            console=console,
            refresh_per_second=10,
            transient=True,
            vertical_overflow="crop",
        ):
            yield

    def take(self, item: StreamEvent | StreamGap) -> None:
        """Take the next item of the stream."""
        if isinstance(item, StreamGap):
            self._output.note(f"some progress is missing: {item.reason}")
            return
        # "updates", or from a subgraph "updates|profiler:6f9d…", deeper ones after another bar
        mode, *path = item.event.split("|")
        inside = [part.partition(":")[0] for part in path]
        if mode == "updates" and isinstance(item.data, Mapping):
            for node in item.data:
                self._enter([*inside, str(node)], done=True)
        elif mode == "messages" and isinstance(item.data, list) and len(item.data) == 2:
            self._take_text(inside, *item.data)

    def _take_text(self, inside: list[str], message: object, about: object) -> None:
        if not isinstance(message, Mapping) or not str(message.get("type", "")).lower().startswith("ai"):
            return
        if isinstance(about, Mapping) and "langgraph_node" in about:
            self._enter([*inside, str(about["langgraph_node"])], done=False)
        if message.get("id") != self._message_id:
            self._message_id, self._text = message.get("id"), ""
        self._text = (self._text + message_text(message.get("content")))[-SHOWN_CHARACTERS:]

    def _enter(self, path: list[str], *, done: bool) -> None:
        self._step = " · ".join(path)
        if done and len(path) == 1 and not self._output.progress.is_terminal:
            self._output.note(f"  {time.monotonic() - self._started:5.1f} s  {self._step}")

    def _draw(self) -> RenderableType:
        self._spinner.update(
            text=Text(f"{printable(self._step)} · {time.monotonic() - self._started:.0f} s", style="dim")
        )
        return Group(self._spinner, Text(printable(self._text), style="dim")) if self._text else self._spinner
