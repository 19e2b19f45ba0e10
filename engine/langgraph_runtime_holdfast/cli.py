"""The engine's commands: `holdfast serve`, `holdfast migrate` and `holdfast doctor`.

The `holdfast` command finds them through the entry-point group "holdfast.commands"; without it they are
`python -m langgraph_runtime_holdfast serve`. Whatever is slow to import is imported when a command runs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from langgraph_runtime_holdfast.roles import Role
from langgraph_runtime_holdfast.telling import log_as_servers_do, tell

CANNOT_START = 2

Config = Annotated[Path, typer.Option(help="langgraph.json")]


def serve(
    config: Config = Path("langgraph.json"),
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="The port; 0 is any free one; unset: 2024, else the next free one."
        ),
    ] = None,
    role: Annotated[Role, typer.Option(help="Answer the API, execute runs, or both.")] = Role.ALL,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at once in a process; unset: N_JOBS_PER_WORKER, else 10."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the port.")] = 1,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Keep everything on this machine, also with a public --host.")
    ] = False,
    no_migrate: Annotated[
        bool,
        typer.Option(
            "--no-migrate", help="Leave the schema to `holdfast migrate`; refuse one that is behind."
        ),
    ] = False,
) -> None:
    """Serve the graphs of langgraph.json, keeping everything in Postgres.

    DATABASE_URI and REDIS_URI say where Postgres and Valkey are; without DATABASE_URI both are started here,
    with their data in HOLDFAST_HOME (default: .holdfast beside langgraph.json).
    """
    with _one_line_errors():
        from langgraph_runtime_holdfast import embedded as services
        from langgraph_runtime_holdfast.serve import ServeOptions

        options = ServeOptions(host, port, role, jobs, workers, embedded, not no_migrate)
        code = services.serve(config, options)
    raise typer.Exit(code)


def migrate(config: Config = Path("langgraph.json")) -> None:
    """Bring the database in DATABASE_URI to this engine's schema, and do nothing else."""
    with _one_line_errors():
        from langgraph_runtime_holdfast.deployment import load_deployment

        deployment = load_deployment(config, os.environ)
        deployment.enter()
        # The server's configuration is read for store.index, and demands one; nothing is sent there.
        os.environ.setdefault("REDIS_URI", "redis://127.0.0.1")
        log_as_servers_do()
        applied = asyncio.run(_migrate())
    for line in [f"applied {name}" for name in applied] or ["the schema is up to date"]:
        tell(line)


def doctor(
    config: Config = Path("langgraph.json"),
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead.")] = False,
) -> None:
    """Look at everything a server needs, and say what is wrong and what to do.

    Ends with 1 if something is wrong; warnings are not.
    """
    from langgraph_runtime_holdfast.doctor.report import report

    raise typer.Exit(asyncio.run(report(config.resolve(), as_json=as_json)))


async def _migrate() -> list[str]:
    from langgraph_runtime_holdfast import migrate as migrations
    from langgraph_runtime_holdfast.settings import settings
    from langgraph_runtime_holdfast.store import index_config

    seconds = settings().migration_timeout_seconds
    return await migrations.migrate(settings().dsn, timeout_seconds=seconds, store_index=index_config())


@contextmanager
def _one_line_errors() -> Iterator[None]:
    from langgraph_runtime_holdfast.asgi import report
    from langgraph_runtime_holdfast.errors import EngineError

    try:
        yield
    except EngineError as error:
        report(error)
        raise typer.Exit(CANNOT_START) from None
