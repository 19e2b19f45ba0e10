"""`holdfast build`: the image of a project of one's own. Needs no server."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from sdk_client.cli.output import ExitCode, Output
from sdk_client.errors import ConfigurationError
from sdk_client.scaffold.image import Builder, build_command, find_builder


def build(
    tag: Annotated[
        str | None, typer.Option(metavar="NAME", help="The image's name; unset: the project's, `:local`.")
    ] = None,
    builder: Annotated[
        Builder | None, typer.Option(help="Unset: the first that is here, docker only with its daemon.")
    ] = None,
    target: Annotated[str | None, typer.Option(metavar="STAGE", help="A stage of deploy/Dockerfile.")] = None,
    build_arg: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="For the Dockerfile; may be given again.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command, and do nothing.")] = False,
) -> None:
    """Build the image of the project in this folder: its agents, on Holdfast's engine, for every role."""
    output = Output(as_json=False)
    try:
        arguments = dict(_pair(text) for text in build_arg or ())
        command = build_command(
            Path(), builder or find_builder(), tag=tag, target=target, arguments=arguments
        )
        if dry_run:
            print(shlex.join(command))
            return
        output.note(shlex.join(command))
        _run(command)
    except ConfigurationError as error:
        output.error(error)
        raise typer.Exit(ExitCode.USAGE) from None


def _run(command: list[str]) -> None:
    try:
        code = subprocess.run(command, check=False).returncode  # noqa: S603 - a builder, with our arguments
    except OSError as error:
        raise ConfigurationError(f"{command[0]} cannot be run: {error.strerror}") from error
    if code:
        raise ConfigurationError(f"{command[0]} ended with {code}; what it said is above")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ConfigurationError(f"--build-arg {text}: give NAME=VALUE")
    return name, value
