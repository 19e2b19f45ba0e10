"""docker-compose.yml as it is, brought up: the demo through TLS, a killed queue, the end within the grace."""

from __future__ import annotations

import json
import os
import secrets
import signal
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.outbox.signing import make_secret
from tests.deploy.rig.composed import Composed
from tests.deploy.rig.machine import PROJECT, Machine, run

pytestmark = pytest.mark.timeout(2400)

HOLDFAST = str(Path(sys.executable).with_name("holdfast"))
STANDINS = PROJECT / "tests" / "deploy" / "standins"
# The names in docker-compose.yml, as podman finds them without a registry.
STANDS_IN_FOR = (
    "docker.io/pgvector/pgvector:pg16",
    "docker.io/valkey/valkey:8-alpine",
    "docker.io/library/caddy:2-alpine",
    "docker.io/prom/prometheus:v3.5.0",
)
RUNS = 30


@pytest.fixture(scope="module")
def standins(machine: Machine, base: str) -> None:
    """Images with the names that docker-compose.yml asks for."""
    tags = [part for name in STANDS_IN_FOR for part in ("--tag", name)]
    run([*machine.build_command, "--build-arg", f"BASE={base}", *tags, str(STANDINS)], seconds=900)


@pytest.fixture(scope="module")
def composed(
    machine: Machine, app_image: str, standins: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composed]:
    """All of it, up."""
    ports = choose_ports({"https": 0, "http": 0, "prometheus": 0})
    values = {
        "HOLDFAST_IMAGE": app_image,
        "HOLDFAST_PUBLISHED_PORT": str(ports["https"]),
        "HOLDFAST_HTTP_PORT": str(ports["http"]),
        "PROMETHEUS_PORT": str(ports["prometheus"]),
        "LG_WEBHOOK_SIGNING_SECRET": make_secret(),
        **{
            name: secrets.token_hex(16)
            for name in ("HOLDFAST_API_KEY", "LG_WEBHOOK_TOKEN", "POSTGRES_PASSWORD", "VALKEY_PASSWORD")
        },
    }
    machine.clear()
    here = Composed.write(machine, tmp_path_factory.mktemp("compose"), values)
    here.run("down", "--volumes", check=False)
    try:
        here.run("up", "--detach")
        for name in ("proxy", "queue", "callbacks"):
            machine.wait_until_healthy(here.container(name))
        yield here
    finally:
        here.run("down", "--volumes", check=False)


@pytest.fixture(scope="module")
def authority(composed: Composed, machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of the proxy's own authority, as docs/deploy.md fetches it."""
    path = tmp_path_factory.mktemp("tls") / "root.crt"
    inside = "/data/caddy/pki/authorities/local/root.crt"
    machine.podman("cp", f"{composed.container('proxy')}:{inside}", path)
    return path


@pytest.fixture
def client(composed: Composed, authority: Path) -> Iterator[httpx.Client]:
    """A caller from outside, who trusts the proxy alone."""
    trust = ssl.create_default_context(cafile=str(authority))
    key = {"x-api-key": composed.value("HOLDFAST_API_KEY")}
    with httpx.Client(
        base_url=url(composed), headers=key, verify=trust, timeout=30, trust_env=False
    ) as caller:
        yield caller


def url(composed: Composed) -> str:
    return f"https://localhost:{composed.value('HOLDFAST_PUBLISHED_PORT')}"


def test_all_parts_run_and_the_demo_passes_through_tls(composed: Composed, authority: Path) -> None:
    counted = [name.removeprefix("holdfast-test_").rsplit("_", 1)[0] for name in composed.containers()]
    assert sorted(counted) == sorted(
        ["proxy", "api", "api", "queue", "queue", "callbacks", "postgres", "valkey"]
    )
    said = run(
        [HOLDFAST, "demo"],
        HOLDFAST_URL=url(composed),
        CALLBACKS_URL=url(composed),
        HOLDFAST_WEBHOOK_URL="http://callbacks:2025/callbacks/runs",
        HOLDFAST_API_KEY=composed.value("HOLDFAST_API_KEY"),
        LG_WEBHOOK_TOKEN=composed.value("LG_WEBHOOK_TOKEN"),
        SSL_CERT_FILE=str(authority),
    )
    assert "7 of 7 runs succeeded; 7 callbacks received and verified." in said


def test_outside_there_is_neither_data_nor_metrics_nor_plain_text(
    composed: Composed, client: httpx.Client
) -> None:
    assert client.get("/ok").json()["ok"] is True
    assert client.get("/ok").headers["strict-transport-security"]
    assert client.get("/metrics").status_code == 404
    assert client.post("/callbacks/runs", json={}).status_code == 404
    assert client.post("/threads/search", json={}, headers={"x-api-key": "wrong"}).status_code == 401
    plain = httpx.get(f"http://localhost:{composed.value('HOLDFAST_HTTP_PORT')}/ok", trust_env=False)
    assert plain.status_code in (301, 308)
    assert plain.headers["location"].startswith("https://")
    # Postgres and Valkey are not even on a network with a way out.
    for service in ("postgres", "valkey"):
        described = json.loads(composed.machine.podman("inspect", composed.container(service)))[0]
        assert list(described["NetworkSettings"]["Networks"]) == ["holdfast-test_data"]
        assert not any(described["NetworkSettings"]["Ports"].values())


def test_a_queue_that_is_killed_loses_nothing(composed: Composed, client: httpx.Client) -> None:
    webhook = "http://callbacks:2025/callbacks/runs"
    example = json.loads((PROJECT / "graphs" / "examples" / "trials.json").read_text())
    created = []
    for _ in range(RUNS):
        thread = client.post("/threads", json={}).json()["thread_id"]
        asked = {"assistant_id": "trials", "input": example, "webhook": webhook}
        created.append((thread, client.post(f"/threads/{thread}/runs", json=asked).json()["run_id"]))
    victim = composed.container("queue", 1)
    # The container's first process, by its number: as the kernel does when memory is short.
    process = int(composed.machine.podman("inspect", "--format", "{{.State.Pid}}", victim))
    os.kill(process, signal.SIGKILL)
    for thread, run_id in created:
        client.get(f"/threads/{thread}/runs/{run_id}/join", timeout=120)
        assert client.get(f"/threads/{thread}/runs/{run_id}").json()["status"] == "success"
    token = {"authorization": f"Bearer {composed.value('LG_WEBHOOK_TOKEN')}"}
    deadline = time.monotonic() + 60
    for _, run_id in created:
        while not (row := _verified(client, run_id, token)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert row, f"no callback of {run_id}"
    # And the policy `unless-stopped` brings it back.
    composed.machine.wait_until_healthy(victim)


def _verified(client: httpx.Client, run_id: str, token: dict[str, str]) -> bool:
    answer = client.get(f"/callbacks/runs/{run_id}", headers=token)
    return answer.status_code == 200 and any(row["verified_at"] for row in answer.json()["callbacks"])


def test_everything_ends_within_its_grace(composed: Composed) -> None:
    names = composed.containers()
    began = time.monotonic()
    composed.run("stop")
    took = time.monotonic() - began
    codes = {name: composed.machine.exit_code(name) for name in names}
    print(f"stopped in {took:.0f} s: {codes}")
    assert took < 60
    # 137 would be a kill; 143 is an end of one's own after SIGTERM.
    assert set(codes.values()) <= {0, 143}
    composed.run("down")
    assert composed.containers() == []
