"""The engine's commands under `holdfast`: there where it is installed, explained where it is not."""

from importlib.metadata import entry_points

import pytest
import typer

from sdk_client.cli import extensions
from sdk_client.cli.main import app


def run(application: object, *arguments: str) -> object:
    return application(list(arguments), prog_name="holdfast", standalone_mode=False)  # type: ignore[operator]


def test_the_engine_brings_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, "serve", "--role", "queue", "--workers", "2") == 2
    assert "error: --workers is for what answers the API" in capsys.readouterr().err
    assert run(app, "serve", "--help") == 0
    assert "without DATABASE_URI both are started here" in " ".join(capsys.readouterr().out.split())


def test_each_of_them_is_known_also_without_the_engine() -> None:
    assert set(extensions.OF_THE_ENGINE) == {entry.name for entry in entry_points(group=extensions.GROUP)}


@pytest.mark.parametrize("command", ["serve", "migrate", "doctor"])
def test_without_the_engine_the_command_says_how_to_get_it(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extensions, "entry_points", lambda group: ())
    bare = typer.Typer()
    extensions.add_to(bare)
    assert run(bare, command, "--port", "1") == 2
    said = capsys.readouterr().err
    assert f"`holdfast {command}` cannot run: the engine is not installed" in said
    assert "make setup" in said
