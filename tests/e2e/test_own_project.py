"""A project of one's own, of wheels and in an empty folder: made, tested, served, given another agent."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sdk_client.scaffold.project import Kind, add_agent
from tests.e2e import wheels

# On a busy machine: it makes an environment, and every process in it compiles what it imports first.
pytestmark = pytest.mark.timeout(400)

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


def test_its_two_commands_pass_and_further_agents_are_served(desk: Path) -> None:
    make(desk, "setup")
    own = desk / ".venv" / "bin" / "holdfast"
    for name, kind in (("outing", "supervisor"), ("letters", "approval")):
        said = wheels.run([own, "new", "agent", name, "--agent", kind], desk)
        assert f"agents/{name}/graph.py" in said
    said = make(desk, "test")
    assert " passed" in said
    assert "failed" not in said
    # The demo asks each agent through the client, decides on what waits, and waits for every callback.
    said = make(desk, "run", "ONCE=1")
    assert "assistant: That loan costs 223.72 a month" in said
    assert "outing: The day is Friday, 2027-05-14. It costs 42.50 each." in said
    assert "letters: waits for a human: send_message" in said
    assert "letters (approved): The message is on its way." in said
    assert "4 of 4 runs succeeded; 4 callbacks received and verified." in said


def test_each_kind_of_agent_is_typed_and_tidy(desk: Path) -> None:
    for kind in Kind:
        add_agent(desk, f"a_{kind}", kind)
    # By this repository's tools, whose caches are warm; the project's `make check` does the same.
    cache = wheels.PROJECT / ".mypy_cache"
    assert "Success" in wheels.run([HERE / "mypy", "--cache-dir", cache], desk)
    wheels.run([HERE / "ruff", "check", "."], desk)
    wheels.run([HERE / "ruff", "format", "--check", "."], desk)
    said = wheels.run([sys.executable, "-m", "graphs.kit.guard"], desk, PYTHONPATH=str(wheels.PROJECT))
    assert said.count(": ok") == said.count("\n") >= 4
