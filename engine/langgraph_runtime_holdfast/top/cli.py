"""The command: asks every so often, and draws."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from rich.console import Group

    from langgraph_runtime_holdfast.top.figures import Figures

_WIDTH_WITHOUT_TERMINAL: Final = 120


def top(
    config: Annotated[Path, typer.Option(help="langgraph.json, whose `env` may name the database.")] = Path(
        "langgraph.json"
    ),
    url: Annotated[
        str, typer.Option(help="Ask this server's /metrics instead of the database (DATABASE_URI).")
    ] = "",
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an object a look, errors included, and nothing else.")
    ] = False,
) -> None:
    """Show queue, workers, pools and callbacks, live; Ctrl-C ends it."""
    from langgraph_runtime_holdfast.outbox.cli import told

    with told(as_json), _source(config, url) as look:
        # Where nobody sees a screen, it would draw for ever and show nothing.
        if as_json or once or not sys.stdout.isatty():
            _print_on(look, every, once=once, as_json=as_json)
        else:
            _draw_on(look, every)


@contextmanager
def _source(config: Path, url: str) -> Iterator[Callable[[], Figures]]:
    from langgraph_runtime_holdfast.outbox.cli import database
    from langgraph_runtime_holdfast.top.figures import from_database, from_server

    if url:
        yield lambda: from_server(url)
        return
    with database(config) as connection:
        yield lambda: from_database(connection)


def _print_on(look: Callable[[], Figures], every: float, *, once: bool, as_json: bool) -> None:
    from rich.console import Console

    from langgraph_runtime_holdfast.outbox.cli import print_json

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL)
    try:
        while True:
            figures = look()
            if as_json:
                print_json(figures)
            else:
                console.print(_drawn(figures))
            if once:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        return


def _draw_on(look: Callable[[], Figures], every: float) -> None:
    from rich.live import Live

    try:
        with Live(_drawn(look()), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                live.update(_drawn(look()), refresh=True)
    except KeyboardInterrupt:
        return


def _drawn(figures: Figures) -> Group:
    from rich.console import Group
    from rich.text import Text

    tables = [
        _table("queue", [figures["queue"]]),
        _table("callbacks", [figures["callbacks"]]),
        _table("workers", figures["workers"]),
        _table("pools", figures["pools"]),
    ]
    return Group(Text(f"holdfast top  {datetime.now():%H:%M:%S}", style="bold"), *tables)


def _table(title: str, rows: list[dict[str, Any]]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", show_edge=False, pad_edge=False)
    if not rows:
        table.add_column("none", min_width=len(title))
        return table
    for name in rows[0]:
        plain = name.removesuffix("_seconds").replace("_", " ")
        table.add_column(plain, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(Text(_shown(name, value)) for name, value in row.items()))
    return table


def _shown(name: str, value: object) -> str:
    if value is None:
        return "?"
    if name.endswith("_seconds"):
        return f"{value:,.1f} s"
    if name == "paused":
        return "YES" if value else "no"
    if name.endswith("_up"):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}"
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))
