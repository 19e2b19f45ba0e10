"""The entry point: the commands, and the errors that come before any of them runs."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from sdk_client.cli import approvals, extensions, runs, threads
from sdk_client.cli.build import build
from sdk_client.cli.demo import demo
from sdk_client.cli.new import new
from sdk_client.cli.output import EXIT_CODES_HELP, NAME, ExitCode, Output, command
from sdk_client.errors import ConfigurationError

app = typer.Typer(
    name=NAME,
    help="Run agents on a LangGraph server, watch them, decide on what waits for a human.\n\n"
    "HOLDFAST_URL and HOLDFAST_API_KEY, from the environment or .env, say which server.",
    epilog=EXIT_CODES_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(runs.run)
app.command()(runs.submit)
app.command()(runs.watch)
app.add_typer(approvals.app, name="approvals")
app.add_typer(threads.app, name="threads")
app.command()(demo)
app.command()(new)
app.command()(build)
extensions.add_to(app)


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="HOLDFAST_DEBUG", help="Show the traceback of an error.")
    ] = False,
) -> None:
    context.obj = debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: Instead of those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # An agent may write what a poor terminal cannot show; an escape is better than a crash.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(given, prog_name=NAME, standalone_mode=False)
    except typer.TyperException as error:
        # The parser failed, so nobody has read the options yet.
        as_json = "--json" in given[: given.index("--") if "--" in given else len(given)]
        message = error.format_message()
        if message:
            Output(as_json=as_json).error(
                ConfigurationError(message), f"`{command()} --help` lists the commands."
            )
        return ExitCode.USAGE
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(main())
