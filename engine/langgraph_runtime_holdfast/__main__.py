"""`python -m langgraph_runtime_holdfast serve|migrate|doctor|…`: the engine's commands alone."""

from importlib.metadata import entry_points

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for entry in entry_points(group="holdfast.commands"):
    if entry.module.startswith("langgraph_runtime_holdfast."):
        command = entry.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)

if __name__ == "__main__":
    app(prog_name="holdfast")
