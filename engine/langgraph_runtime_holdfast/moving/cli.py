"""`holdfast import` and its sources, and `holdfast export`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langgraph_runtime_holdfast.moving.choice import HELP

if TYPE_CHECKING:
    from langgraph_runtime_holdfast.moving.bring import Wishes
    from langgraph_runtime_holdfast.moving.content import Source
    from langgraph_runtime_holdfast.moving.report import Report

SOMETHING_LEFT: int = 1
CANNOT: int = 2

app = typer.Typer(
    name="import",
    help="Bring threads, assistants, crons and memory here from somewhere else.\n\n"
    "The target is the database in DATABASE_URI, migrated, with the graphs of langgraph.json. What is here "
    "with other content stays; started again it goes on where it was. Ends with 1 if anything was left.",
    no_args_is_help=True,
    add_completion=False,
)

Config = Annotated[Path, typer.Option(help="langgraph.json of the deployment to bring things to.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Read and compare everything, and change nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
Graph = Annotated[list[str], typer.Option(help=HELP)]
Metadata = Annotated[str, typer.Option(help='JSON for the metadata of each thread, such as {"owner": "me"}.')]
EnableCrons = Annotated[
    bool, typer.Option("--enable-crons", help="Let crons fire here; only once the source is stopped.")
]
Address = Annotated[
    str,
    typer.Argument(
        envvar="HOLDFAST_IMPORT_FROM",
        show_envvar=True,
        help="Its address, postgresql://…; in the environment nobody else sees the password.",
    ),
]
_NO_GRAPHS: list[str] = []


@app.command()
def postgres(
    source: Address,
    graph: Graph = _NO_GRAPHS,
    metadata: Metadata = "{}",
    dry_run: Dry = False,
    as_json: AsJson = False,
    config: Config = Path("langgraph.json"),
) -> None:
    """From a database of AsyncPostgresSaver, and of AsyncPostgresStore if that is in it.

    Each thread keeps its whole history, and a pause waits here for its answer. Ids that are no UUIDs get
    one; metadata.imported.thread_id has the old one.
    """
    with _told():
        from langgraph_runtime_holdfast.moving.bring import Wishes

        wishes = Wishes(dry_run, graph, _object(metadata))

        def source_of() -> AbstractAsyncContextManager[Source]:
            from langgraph_runtime_holdfast.moving.sql_source import SqlSource

            return SqlSource.opened(source)

        _import(config, source_of, wishes, as_json=as_json)


@app.command()
def server(
    source: Annotated[
        str, typer.Argument(envvar="HOLDFAST_IMPORT_FROM", show_envvar=True, help="Its URL, http://….")
    ],
    key: Annotated[str, typer.Option(envvar="HOLDFAST_IMPORT_KEY", help="Sent as x-api-key.")] = "",
    headers: Annotated[
        str,
        typer.Option(envvar="HOLDFAST_IMPORT_HEADERS", help='JSON to send too: {"authorization": "…"}.'),
    ] = "{}",
    graph: Graph = _NO_GRAPHS,
    metadata: Metadata = "{}",
    enable_crons: EnableCrons = False,
    dry_run: Dry = False,
    as_json: AsJson = False,
    config: Config = Path("langgraph.json"),
) -> None:
    """From any LangGraph server, through its API.

    Threads keep their history with its ids and times, and their pauses; assistants their versions. Runs are
    not brought: a thread with one under way is left, and told.
    """
    with _told():
        from langgraph_runtime_holdfast.moving.bring import Wishes

        wishes = Wishes(dry_run, graph, _object(metadata), enable_crons)
        sent = {**({"x-api-key": key} if key else {}), **_object(headers, "--headers")}

        def source_of() -> AbstractAsyncContextManager[Source]:
            from langgraph_runtime_holdfast.moving.server_source import ServerSource

            return ServerSource.opened(source, sent)

        _import(config, source_of, wishes, as_json=as_json)


@app.command()
def aegra(
    source: Address,
    graph: Graph = _NO_GRAPHS,
    metadata: Metadata = "{}",
    enable_crons: EnableCrons = False,
    dry_run: Dry = False,
    as_json: AsJson = False,
    config: Config = Path("langgraph.json"),
) -> None:
    """From Aegra's database: threads with all checkpoints, assistants with versions, crons, memory.

    Whose a thread, an assistant or a cron is, is in its metadata here, under "owner".
    """
    with _told():
        from langgraph_runtime_holdfast.moving.bring import Wishes

        wishes = Wishes(dry_run, graph, _object(metadata), enable_crons)

        def source_of() -> AbstractAsyncContextManager[Source]:
            from langgraph_runtime_holdfast.moving.aegra_source import AegraSource

            return AegraSource.opened(source)

        _import(config, source_of, wishes, as_json=as_json)


@app.command()
def folder(
    source: Annotated[Path, typer.Argument(help="What `holdfast export` has written.")],
    graph: Graph = _NO_GRAPHS,
    metadata: Metadata = "{}",
    enable_crons: EnableCrons = False,
    dry_run: Dry = False,
    as_json: AsJson = False,
    config: Config = Path("langgraph.json"),
) -> None:
    """From a folder that `holdfast export` has written."""
    with _told():
        from langgraph_runtime_holdfast.moving.bring import Wishes

        wishes = Wishes(dry_run, graph, _object(metadata), enable_crons)
        # Before the working directory becomes the deployment's.
        found = source.resolve()

        def source_of() -> AbstractAsyncContextManager[Source]:
            from langgraph_runtime_holdfast.moving.folder_source import FolderSource

            return FolderSource.opened(found)

        _import(config, source_of, wishes, as_json=as_json)


def export(
    folder: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    as_json: AsJson = False,
    config: Config = Path("langgraph.json"),
) -> None:
    """Write threads with their history, assistants, crons and memory as JSON lines.

    `holdfast import folder` takes them back. The folder has its name only when all of it is on disk. Ends
    with 1 if a thread was left because a run works on it.
    """
    with _told():
        from langgraph_runtime_holdfast.moving.report import Report

        report = Report(f"to {folder}", verb="written")
        asyncio.run(_export(_exported_database(config.resolve()), folder.resolve(), report))
        if as_json:
            print(json.dumps(report.as_json(), indent=2))
        else:
            report.print()
        if not report.is_whole:
            raise typer.Exit(SOMETHING_LEFT)


def _exported_database(config: Path) -> str:
    from langgraph_runtime_holdfast.errors import EngineError
    from langgraph_runtime_holdfast.find_database import find_database
    from langgraph_runtime_holdfast.local.manifest import read_manifest

    if config.exists() and read_manifest(config).get("encryption"):
        raise EngineError(
            "langgraph.json has `encryption`: what is sealed stays sealed, so there is nothing to export as "
            "text. `holdfast backup` takes it as it is."
        )
    return find_database(config)


async def _export(dsn: str, folder: Path, report: Report) -> None:
    from langgraph_runtime_holdfast.moving.export import export as write
    from langgraph_runtime_holdfast.moving.own_source import OwnSource

    async with OwnSource.opened(dsn) as source:
        await write(source, folder, report)


def _import(
    config: Path,
    source_of: Callable[[], AbstractAsyncContextManager[Source]],
    wishes: Wishes,
    *,
    as_json: bool,
) -> None:
    from langgraph_runtime_holdfast.moving import session

    session.enter(config)
    report = asyncio.run(_run(source_of, wishes, shows=not as_json))
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        report.print()
    if not report.is_whole:
        raise typer.Exit(SOMETHING_LEFT)


async def _run(
    source_of: Callable[[], AbstractAsyncContextManager[Source]], wishes: Wishes, *, shows: bool
) -> Report:
    from rich.console import Console

    from langgraph_runtime_holdfast.moving.bring import bring_all
    from langgraph_runtime_holdfast.moving.report import Report
    from langgraph_runtime_holdfast.moving.session import target

    async with source_of() as source, target(changes_nothing=wishes.is_dry) as handle:
        report = Report(f"from {source.kind}", wishes.is_dry)
        with Console(stderr=True, quiet=not shows).status("reading …") as status:

            def show(now: Report) -> None:
                counted = ", ".join(
                    f"{now.taken[kind] + now.already[kind] + now.left[kind]} {kind}"
                    for kind in ("threads", "items")
                )
                status.update(counted)

            await bring_all(handle, source, wishes, report, show)
        return report


def _object(text: str, option: str = "--metadata") -> dict[str, Any]:
    from langgraph_runtime_holdfast.errors import EngineError

    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise EngineError(f"{option} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise EngineError(f"{option} is not a JSON object.")
    return found


@contextmanager
def _told() -> Iterator[None]:
    import httpx
    import psycopg
    from langgraph_sdk.errors import APIError

    from langgraph_runtime_holdfast.errors import EngineError
    from langgraph_runtime_holdfast.telling import tell

    try:
        yield
    except EngineError as error:
        tell(str(error), "error")
        raise typer.Exit(CANNOT) from None
    except (psycopg.Error, httpx.HTTPError, APIError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        tell(f"The source or the target did not answer as it should: {why}", "error")
        tell("What was brought stays; start it again to go on.", "error")
        raise typer.Exit(CANNOT) from None
