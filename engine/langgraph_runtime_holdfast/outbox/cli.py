"""`holdfast callbacks`: look at the outbox, and send again what was given up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from langgraph_runtime_holdfast.errors import EngineError

if TYPE_CHECKING:
    import psycopg
    from rich.table import Table

USAGE: Final = 2
REFUSED: Final = 4
UNAVAILABLE: Final = 5

app = typer.Typer(
    help="Look at callbacks that are to be delivered, and send again those that were given up.",
    no_args_is_help=True,
)

Config = Annotated[Path, typer.Option(help="langgraph.json, whose `env` may name the database.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output and nothing else, errors included.")
]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")]

_WIDTH_WITHOUT_TERMINAL: Final = 200
_COLUMNS: Final = """id, run_id, thread_id, host, attempts, created_at, available_at, last_status, last_error,
    dead_at, dead_reason"""
_DEAD: Final = f"""
SELECT {_COLUMNS} FROM outbox WHERE dead_at IS NOT NULL ORDER BY dead_at DESC, id LIMIT %(limit)s
"""  # noqa: S608 - constants
_PENDING: Final = f"""
SELECT {_COLUMNS} FROM outbox WHERE delivered_at IS NULL AND dead_at IS NULL
ORDER BY available_at, id LIMIT %(limit)s
"""  # noqa: S608 - constants
_REPLAY: Final = """
UPDATE outbox SET dead_at = NULL, dead_reason = NULL, attempts = 0, available_at = now(),
    retry_until = now() + make_interval(secs => %(retry_seconds)s)
WHERE dead_at IS NOT NULL AND (%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s::uuid[]))
RETURNING id
"""


@app.command()
def dead(config: Config = Path("langgraph.json"), limit: Limit = 50, as_json: AsJson = False) -> None:
    """List callbacks that were given up, the latest first."""
    cure = "Send them again with: holdfast callbacks replay ID... (or --all)"
    _list(config, _DEAD, limit, as_json, nothing="No callback has been given up.", cure=cure)


@app.command()
def pending(config: Config = Path("langgraph.json"), limit: Limit = 50, as_json: AsJson = False) -> None:
    """List callbacks that are to be delivered, those that are due first."""
    _list(config, _PENDING, limit, as_json, nothing="No callback waits.", cure=None)


@app.command()
def replay(
    ids: Annotated[list[UUID] | None, typer.Argument(metavar="[ID]...", help="As `dead` shows them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that were given up.")] = False,
    config: Config = Path("langgraph.json"),
    as_json: AsJson = False,
) -> None:
    """Send callbacks again that were given up, at once and with all their time, under their webhook-id."""
    with told(as_json):
        if bool(ids) == everything:
            raise EngineError("Name the callbacks to send again, or all of them with --all.")
        with database(config) as connection:
            from langgraph_runtime_holdfast.settings import settings

            retry_seconds = settings().callback_retry_hours * 3600
            rows = connection.execute(
                _REPLAY, {"ids": ids or None, "retry_seconds": retry_seconds}
            ).fetchall()
        replayed = [row["id"] for row in rows]
        unknown = [each for each in ids or () if each not in set(replayed)]
        if as_json:
            print_json({"replayed": replayed, "not_given_up": unknown})
        else:
            print(f"{len(replayed)} to be sent again")
            for each in unknown:
                _complain(f"{each} is not among the callbacks that were given up.")
    if unknown:
        raise typer.Exit(REFUSED)


def _list(config: Path, query: str, limit: int, as_json: bool, *, nothing: str, cure: str | None) -> None:
    with told(as_json):
        with database(config) as connection:
            rows = connection.execute(query, {"limit": limit + 1}).fetchall()
        shown = rows[:limit]
        if as_json:
            print_json({"callbacks": shown})
            return
        if not rows:
            print(nothing)
            return
        _print_table(shown)
        if len(rows) > limit:
            typer.echo(f"There are more than {limit}; --limit shows them.", err=True)
        if cure:
            typer.echo(cure, err=True)


@contextmanager
def database(config: Path) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """The deployment's database: DATABASE_URI, or the Postgres that runs in its data folder.

    Raises:
        EngineError: There is none, or it is behind this version.
    """
    import psycopg
    from psycopg.rows import dict_row

    from langgraph_runtime_holdfast.dsn import described
    from langgraph_runtime_holdfast.find_database import find_database

    dsn = find_database(config)
    # Through a pooler too, so nothing is prepared.
    options: dict[str, Any] = {"autocommit": True, "connect_timeout": 5, "prepare_threshold": None}
    try:
        with psycopg.connect(dsn, row_factory=dict_row, **options) as connection:
            yield connection
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction) as error:
        missing = str(error).split("\n", 1)[0]
        raise EngineError(
            f"The database is behind this version: {missing}. Bring it there with: holdfast migrate"
        ) from None
    except psycopg.Error as error:
        raise DatabaseAwayError(
            f"Postgres at {described(dsn)} cannot be used: {' '.join(str(error).split())}"
        ) from error


class DatabaseAwayError(EngineError):
    """Postgres does not answer."""


@contextmanager
def told(as_json: bool) -> Iterator[None]:
    """Tell an error in one line, and end with its code."""
    try:
        yield
    except EngineError as error:
        if as_json:
            print_json({"error": {"type": type(error).__name__, "message": str(error)}})
        else:
            _complain(str(error))
        raise typer.Exit(UNAVAILABLE if isinstance(error, DatabaseAwayError) else USAGE) from None


def _complain(text: str) -> None:
    typer.echo(f"error: {_printable(text)}", err=True)


def print_json(document: object) -> None:
    """Print JSON on standard output."""
    print(json.dumps(document, indent=2, default=_plain), flush=True)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    _fill(table, rows)
    console.print(table)


def _fill(table: Table, rows: Iterable[dict[str, Any]]) -> None:
    from rich.text import Text

    now = datetime.now(UTC)
    columns: dict[str, Callable[[dict[str, Any]], object]] = {
        "callback": lambda row: row["id"],
        "run": lambda row: row["run_id"],
        "host": lambda row: row["host"],
        "tries": lambda row: row["attempts"],
        "age": lambda row: _span((now - row["created_at"]).total_seconds()),
        "last error": lambda row: row["dead_reason"] or row["last_error"] or "",
    }
    for name in columns:
        table.add_column(name, no_wrap=name in ("callback", "run", "age"), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_printable(str(show(row)))) for show in columns.values()))


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def _printable(text: str) -> str:
    """Make what a receiver said harmless on a terminal."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
