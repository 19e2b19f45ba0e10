"""`holdfast build`: which builder, which command, and what it refuses before anything is built."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from sdk_client.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[2]
GIT = "git+https://example.org/a/b.git"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As it is after `make setup`, and the present folder."""
    monkeypatch.chdir(tmp_path)
    assert main(["new", "my-desk", "--from", GIT]) == 0
    folder = tmp_path / "my-desk"
    (folder / "uv.lock").touch()
    monkeypatch.chdir(folder)
    return folder


def put(folder: Path, name: str, code: int = 0) -> None:
    """A program that notes how it was called."""
    program = folder / name
    script = f'for part; do echo "$part"; done > "{folder}/{name}.called"; exit {code}'
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)


def test_docker_without_its_daemon_is_not_taken_and_none_is_said(
    programs: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def first_word() -> str:
        capsys.readouterr()
        assert main(["build", "--dry-run"]) == 0
        return capsys.readouterr().out.split()[0]

    assert main(["build"]) == 2
    assert "needs docker, podman or buildah to build it: none is here" in capsys.readouterr().err
    put(programs, "docker", code=1)
    assert main(["build"]) == 2
    assert "none is here; docker is, but not its daemon" in capsys.readouterr().err
    put(programs, "buildah")
    assert first_word() == "buildah"
    put(programs, "podman")
    assert first_word() == "podman"
    put(programs, "docker")
    assert first_word() == "docker"


def test_what_is_printed_is_what_is_run_and_what_compose_builds(
    programs: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(programs, "podman")
    given = ["build", "--target", "app", "--build-arg", "BASE=my base:1"]
    capsys.readouterr()
    assert main([*given, "--dry-run"]) == 0
    printed = shlex.split(capsys.readouterr().out)
    assert not (programs / "podman.called").exists()
    assert main(given) == 0
    assert (programs / "podman.called").read_text().splitlines() == printed[1:]
    assert {"--file", "deploy/Dockerfile", "VERSION=0.1.0", "TITLE=my-desk", "BASE=my base:1"} <= set(printed)
    assert printed[printed.index("--target") + 1] == "app"
    # A HEALTHCHECK is in no OCI image.
    assert printed[printed.index("--format") + 1] == "docker"
    server = yaml.safe_load((project / "compose.yaml").read_text())["services"]["server"]
    assert server["build"]["dockerfile"] == "deploy/Dockerfile"
    assert printed[printed.index("--tag") + 1] == server["image"]
    assert {f"{name}={value}" for name, value in server["build"]["args"].items()} <= set(printed)
    assert main(["build", "--tag", "here/desk:2", "--dry-run"]) == 0
    assert "--tag here/desk:2" in capsys.readouterr().out
    put(programs, "podman", code=3)
    assert main(["build"]) == 2
    assert "podman ended with 3" in capsys.readouterr().err


def test_make_image_of_a_project_builds_what_compose_runs(project: Path) -> None:
    (project / ".venv").mkdir()
    (project / ".venv" / ".ready").write_text(f"{project}\n")
    command = ["make", "--no-print-directory", "-n", "image"]
    printed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert printed.stdout.splitlines()[-1].split() == [".venv/bin/holdfast", "build"]


def test_it_builds_this_repository_as_make_image_does(
    programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(programs, "podman")
    monkeypatch.chdir(REPOSITORY)
    assert main(["build", "--tag", "holdfast:local", "--target", "app", "--dry-run"]) == 0
    ours = capsys.readouterr().out
    monkeypatch.undo()
    command = ["make", "-n", "image", "BUILD=podman build --format docker"]
    theirs = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert ours.split(" --build-arg")[0] == theirs.split(" \\\n")[0].splitlines()[-1]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("deploy/Dockerfile", "is no project that `holdfast new` has made: it has no deploy/Dockerfile"),
        ("pyproject.toml", "it has no pyproject.toml. Go to its folder first"),
        ("uv.lock", "`make setup` writes it"),
    ],
)
def test_what_cannot_be_built_is_refused_first(
    programs: Path, project: Path, spoil: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(programs, "podman")
    (project / spoil).unlink()
    assert main(["build"]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (programs / "podman.called").exists()


def test_a_project_of_a_checkout_and_a_wrong_argument_are_refused(
    programs: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(programs, "podman")
    assert main(["build", "--build-arg", "BASE"]) == 2
    assert "--build-arg BASE: give NAME=VALUE" in capsys.readouterr().err
    pyproject = project / "pyproject.toml"
    text = pyproject.read_text()
    outside = json.dumps(str(REPOSITORY))
    pyproject.write_text(text + f"\n[tool.uv.sources.elsewhere]\npath = {outside}\n")
    assert main(["build"]) == 2
    assert "the image cannot have elsewhere" in capsys.readouterr().err
    assert not (programs / "podman.called").exists()
