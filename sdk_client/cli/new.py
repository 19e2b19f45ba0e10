"""`holdfast new`: a project of one's own, and another agent for it. Needs no server."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from sdk_client.cli.output import ExitCode, Output, command
from sdk_client.errors import ConfigurationError
from sdk_client.scaffold.origin import FORMS, find_origin
from sdk_client.scaffold.project import FIRST_AGENT, Kind, add_agent, make_project

AGENT = "agent"


def new(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME | agent NAME", help="The project's folder; or `agent` and its name."),
    ],
    agent_name: Annotated[str | None, typer.Argument(hidden=True)] = None,
    kind: Annotated[Kind, typer.Option("--agent", help="What the agent is made like.")] = Kind.TOOLS,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="WHERE",
            help=f"Where Holdfast comes from: {FORMS}. Unset: where this command does.",
        ),
    ] = None,
) -> None:
    """Write a project of your own with one agent, or add an agent to the project in this folder."""
    output = Output(as_json=False)
    try:
        if name == AGENT:
            _add_agent(output, agent_name, kind, source)
        else:
            _make_project(output, name, agent_name, kind, source)
    except ConfigurationError as error:
        output.error(error)
        raise typer.Exit(ExitCode.USAGE) from None


def _make_project(output: Output, name: str, word: str | None, kind: Kind, source: str | None) -> None:
    if word is not None:
        raise ConfigurationError(
            f"{word!r} is one word too many: {command()} new {name}, or {command()} new agent NAME"
        )
    files = make_project(Path(name), kind, find_origin(source))
    output.say(f"{name}: {len(files)} files, with one agent, {FIRST_AGENT}. Next:")
    output.say(f"  cd {shlex.quote(name)}")
    output.say("  make test    # sets .venv up first")
    output.say("  make run")


def _add_agent(output: Output, name: str | None, kind: Kind, source: str | None) -> None:
    if name is None:
        raise ConfigurationError(f"say how the agent is to be called: {command()} new agent NAME")
    if source is not None:
        raise ConfigurationError("--from is for a new project; this one has its packages")
    for file in add_agent(Path(), name, kind):
        output.say(str(file))
    output.say(f"langgraph.json serves {name} from the next start; `make test` tests it.")
