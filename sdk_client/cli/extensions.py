"""Commands that other packages bring, single ones and groups: the engine's, through entry points.

The client knows the engine by name only, so that it can be installed without it.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Final

import typer

from sdk_client.cli.output import ExitCode, Output
from sdk_client.errors import ConfigurationError

GROUP: Final = "holdfast.commands"
OF_THE_ENGINE: Final = {
    "serve": "Serve the graphs of langgraph.json, keeping everything in Postgres.",
    "migrate": "Bring the database to the engine's schema, and do nothing else.",
    "doctor": "Look at everything a server needs, and say what is wrong and what to do.",
    "backup": "Back up the engine's database, whole and of one moment, while servers work on it.",
    "restore": "Bring a backup back, safe to serve on.",
    "adopt": "Make a database that came back by other means than `restore` safe to serve on.",
    "pause": "Have all servers begin no run, cron or callback; what is under way goes on.",
    "resume": "End the pause.",
    "callbacks": "Look at callbacks that are to be delivered, and send again those that were given up.",
    "top": "Show queue, workers, pools and callbacks, live.",
    "import": "Bring threads, assistants, crons and memory here from somewhere else.",
    "export": "Write threads with their history, assistants, crons and memory as JSON lines.",
    "capacity": "Say what a load needs: servers, connections, Postgres, disk and Valkey.",
}


def add_to(app: typer.Typer) -> None:
    """Add every command of the entry-point group, and in the place of each missing one how to install it."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    for name in sorted({*found, *OF_THE_ENGINE}):
        _add(app, name, found.get(name))


def _add(app: typer.Typer, name: str, entry: EntryPoint | None) -> None:
    cause = "the engine is not installed"
    if entry is not None:
        try:
            brought = entry.load()
        except ImportError as error:
            cause = f"the engine cannot be imported ({error})"
        else:
            if isinstance(brought, typer.Typer):
                app.add_typer(brought, name=name)
            else:
                app.command(name)(brought)
            return

    def explain() -> None:
        error = ConfigurationError(f"`holdfast {name}` cannot run: {cause}.")
        cure = "Install langgraph-runtime-holdfast beside it; in a project, `make setup` does."
        Output(as_json=False).error(error, cure)
        raise typer.Exit(ExitCode.USAGE)

    # Whatever is given with it, the answer is the same.
    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    app.command(name, help=f"{OF_THE_ENGINE.get(name, '')} ({cause})", context_settings=settings)(explain)
