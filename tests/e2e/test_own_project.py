"""A project of one's own, of wheels and in an empty folder: made, tested, served, given another agent."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sdk_client.scaffold.project import Kind, add_agent
from tests.e2e import wheels

HERE = Path(sys.executable).parent


@pytest.fixture(scope="module")
def desk(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one agent as `holdfast new` makes it, on the versions that we are locked to."""
    folder = tmp_path_factory.mktemp("empty")
    wheels.run([HERE / "holdfast", "new", "my-desk", "--from", built], folder)
    project = folder / "my-desk"
    pyproject = project / "pyproject.toml"
    locked = f"constraint-dependencies = {json.dumps(wheels.locked_versions())}\n"
    pyproject.write_text(pyproject.read_text().replace("[tool.uv]\n", f"[tool.uv]\n{locked}"))
    return project


def make(desk: Path, *arguments: str) -> str:
    command = ["make", "--no-print-directory", *arguments]
    return wheels.run(command, desk, HOLDFAST_PORT="0", CALLBACKS_PORT="0")


def test_its_two_commands_pass_and_a_second_agent_is_served(desk: Path) -> None:
    assert " passed" in make(desk, "test")
    own = desk / ".venv" / "bin" / "holdfast"
    assert "agents/outing/graph.py" in wheels.run(
        [own, "new", "agent", "outing", "--agent", "supervisor"], desk
    )
    # The demo asks each agent through the client, and waits for the callbacks of what it believes.
    said = make(desk, "run", "ONCE=1")
    assert "assistant: That loan costs 223.72 a month" in said
    assert "outing: The day is Friday, 2027-05-14. It costs 42.50 each." in said
    assert "2 of 2 runs succeeded; 2 callbacks received and verified." in said


def test_each_kind_of_agent_is_typed_tidy_and_tested(desk: Path) -> None:
    for kind in Kind:
        add_agent(desk, f"a_{kind}", kind)
    # By this repository's tools, whose caches are warm; the project's `make check` does the same.
    cache = wheels.PROJECT / ".mypy_cache"
    assert "Success" in wheels.run([HERE / "mypy", "--cache-dir", cache], desk)
    wheels.run([HERE / "ruff", "check", "."], desk)
    wheels.run([HERE / "ruff", "format", "--check", "."], desk)
    assert " passed" in wheels.run([HERE / "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"], desk)
    said = wheels.run([sys.executable, "-m", "graphs.kit.guard"], desk, PYTHONPATH=str(wheels.PROJECT))
    assert said.count(": ok") == said.count("\n") >= 4
