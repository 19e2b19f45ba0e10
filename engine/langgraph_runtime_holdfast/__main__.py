"""`python -m langgraph_runtime_holdfast serve|migrate`: the engine's commands by themselves."""

import typer

from langgraph_runtime_holdfast.cli import migrate, serve

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(serve)
app.command()(migrate)

if __name__ == "__main__":
    app(prog_name="holdfast")
