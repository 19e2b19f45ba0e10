"""What a person deploys with: langgraph.json, its Dockerfile, docker-compose.yml, .env.example."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from langgraph_runtime_holdfast.local.settings import DEFAULT_PORTS, SECRETS
from langgraph_runtime_holdfast.settings import EngineSettings
from sdk_client.callbacks.settings import CallbackSettings
from sdk_client.settings import ClientSettings

PROJECT = Path(__file__).resolve().parents[2]


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
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    assert {".env", ".env.*", ".git", ".holdfast"} <= set(ignored)


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


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
    return loaded


def test_every_composed_service_is_watched_and_waits_for_what_it_needs(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services.keys() == {"postgres", "valkey", "api", "callbacks"}
    for name, service in services.items():
        assert "healthcheck" in service, name
        assert service["restart"] == "unless-stopped", name
        for needed in service.get("depends_on", {}).values():
            assert needed == {"condition": "service_healthy"}, name
    assert services["api"]["depends_on"].keys() == {"postgres", "valkey"}
    assert services["callbacks"]["depends_on"].keys() == {"postgres", "api"}


def test_nothing_composed_has_a_default_secret_or_an_open_port(compose: dict[str, Any]) -> None:
    text = (PROJECT / "docker-compose.yml").read_text()
    for secret in ("HOLDFAST_API_KEY", "LG_WEBHOOK_TOKEN", "POSTGRES_PASSWORD"):
        uses = re.findall(rf"\$\{{{secret}[^}}]*\}}", text)
        assert uses
        # `${NAME:?…}` stops compose with a message; `:-` would be a default.
        assert all(use.startswith(f"${{{secret}:?") for use in uses)
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:${HOLDFAST_PUBLISHED_PORT:-8123}:8000"]


def test_the_composed_server_drains_before_it_is_killed_and_fits_its_postgres(
    compose: dict[str, Any],
) -> None:
    api = compose["services"]["api"]
    drain_seconds = int(api["environment"]["BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS"])
    assert int(api["stop_grace_period"].removesuffix("s")) > drain_seconds
    stock_max_connections = 100
    assert int(api["environment"]["LANGGRAPH_POSTGRES_POOL_MAX_SIZE"]) < stock_max_connections


def test_composed_webhooks_are_those_of_the_manifest_without_loopback(compose: dict[str, Any]) -> None:
    composed = json.loads(compose["services"]["api"]["environment"]["LANGGRAPH_WEBHOOKS"].replace("$$", "$"))
    declared = json.loads((PROJECT / "langgraph.json").read_text())["webhooks"]
    assert composed["url"].pop("allowed_domains") == ["callbacks"]
    assert set(declared["url"].pop("allowed_domains")) == {"127.0.0.1", "localhost", "callbacks"}
    assert composed == declared


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
