"""The command: reads the load, prints what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from langgraph_runtime_holdfast.capacity.answer import Answer

CANNOT: Final = 2
_WIDTH_WITHOUT_TERMINAL: Final = 120


def capacity(
    runs_per_second: Annotated[
        float, typer.Option(help="Runs that arrive each second, at the busiest time.")
    ],
    seconds_per_run: Annotated[float, typer.Option(help="How long a run takes on average, once begun.")],
    wait: Annotated[float, typer.Option(help="Seconds in which 95 of 100 runs are to start.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Supersteps of a run.")] = 5,
    state_kb: Annotated[float, typer.Option(help="Kilobytes of state that each step writes.")] = 20.0,
    jobs: Annotated[int, typer.Option(help="N_JOBS_PER_WORKER: runs at once in a queue.")] = 10,
    keep_days: Annotated[float, typer.Option(help="How long threads are kept: the TTL.")] = 30.0,
    average: Annotated[
        float | None,
        typer.Option(help="Runs a second over a whole day, for the disk; unset: as at the busiest time."),
    ] = None,
    streamed: Annotated[float, typer.Option(help="Part of the runs that are streamed, 0 to 1.")] = 0.0,
    own_ms: Annotated[float, typer.Option(help="Milliseconds of processor of your nodes, a run.")] = 0.0,
    pgbouncer: Annotated[
        bool | None, typer.Option("--pgbouncer/--no-pgbouncer", help="Unset: where it is needed.")
    ] = None,
    measured: Annotated[
        Path | None, typer.Option(help="Your own figures: what `python -m benchmarks.cost` has written.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an object, errors included, and nothing else.")
    ] = False,
) -> None:
    """Say what a load needs: servers, connections, Postgres, disk and Valkey.

    Computed from what a run was measured to cost, and a model of waiting; docs/scale.md says how sure it is.
    """
    from langgraph_runtime_holdfast.outbox.cli import print_json, told

    with told(as_json):
        from langgraph_runtime_holdfast.capacity.answer import answer
        from langgraph_runtime_holdfast.capacity.measured import read_measured
        from langgraph_runtime_holdfast.capacity.plan import Load

        load = Load(
            runs_per_second=runs_per_second,
            seconds_per_run=seconds_per_run,
            wait_seconds=wait,
            steps=steps,
            kilobytes=state_kb,
            jobs=jobs,
            keep_days=keep_days,
            average_runs_per_second=average,
            streamed=streamed,
            own_ms=own_ms,
            pgbouncer=pgbouncer,
        )
        found = answer(load, read_measured(measured))
    if as_json:
        print_json(found.as_object())
    else:
        _draw(found)


def _draw(found: Answer) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL)
    for title, rows in found.sections().items():
        table = Table(
            box=box.SIMPLE_HEAD, title=title, title_justify="left", show_header=False, show_edge=False
        )
        table.add_column(no_wrap=True, min_width=22)
        table.add_column()
        for name, value in rows:
            table.add_row(_plain(name), _plain(value))
        console.print(table)


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)
