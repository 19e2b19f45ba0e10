"""`python -m langgraph_runtime_holdfast serve|migrate|doctor|…`: the engine's commands alone."""

import typer

from langgraph_runtime_holdfast.backup.cli import adopt, backup, pause, restore, resume
from langgraph_runtime_holdfast.cli import doctor, migrate, serve
from langgraph_runtime_holdfast.outbox import cli as callbacks

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for command in (serve, migrate, doctor, backup, restore, adopt, pause, resume):
    app.command()(command)
app.add_typer(callbacks.app, name="callbacks")

if __name__ == "__main__":
    app(prog_name="holdfast")
