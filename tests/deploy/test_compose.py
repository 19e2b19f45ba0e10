"""docker-compose.yml as it is, brought up: the demo through TLS, a killed queue, the end within the grace.

With podman where it is there; without it the file's services as processes, for all but the network.
"""

from __future__ import annotations

import json
import secrets
import shutil
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
from tests.deploy.rig.machine import PROJECT, run
from tests.deploy.rig.processes import Processes

pytestmark = pytest.mark.timeout(2400)

HOLDFAST = str(Path(sys.executable).with_name("holdfast"))
STANDINS = PROJECT / "tests" / "deploy" / "standins"
# The names in docker-compose.yml, as podman finds them without a registry.
STANDS_IN_FOR = (
    "docker.io/pgvector/pgvector:pg17",
    "docker.io/valkey/valkey:8-alpine",
    "docker.io/library/caddy:2-alpine",
    "docker.io/prom/prometheus:v3.5.0",
)
RUNS = 30
STOP_SECONDS = 120
has_podman = pytest.mark.skipif(shutil.which("podman") is None, reason="the network is podman's")


def secret_values() -> dict[str, str]:
    names = ("HOLDFAST_API_KEY", "LG_WEBHOOK_TOKEN", "POSTGRES_PASSWORD", "VALKEY_PASSWORD")
    return {"LG_WEBHOOK_SIGNING_SECRET": make_secret(), **{name: secrets.token_hex(16) for name in names}}


@pytest.fixture(scope="module")
def deployment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composed | Processes]:
    """All of it, up."""
    folder = tmp_path_factory.mktemp("compose")
    if shutil.which("podman") is None:
        with Processes(folder, secret_values()).running() as processes:
            yield processes
        return
    machine, base = request.getfixturevalue("machine"), request.getfixturevalue("base")
    tags = [part for name in STANDS_IN_FOR for part in ("--tag", name)]
    run([*machine.build_command, "--build-arg", f"BASE={base}", *tags, str(STANDINS)], seconds=900)
    ports = choose_ports({"HOLDFAST_PUBLISHED_PORT": 0, "HOLDFAST_HTTP_PORT": 0, "PROMETHEUS_PORT": 0})
    values = {
        "HOLDFAST_IMAGE": request.getfixturevalue("app_image"),
        **{name: str(port) for name, port in ports.items()},
        **secret_values(),
    }
    with Composed.write(machine, folder, values).running() as composed:
        yield composed


@pytest.fixture
def client(deployment: Composed | Processes) -> Iterator[httpx.Client]:
    """A caller from outside, who trusts the proxy alone."""
    authority = deployment.authority
    trust = ssl.create_default_context(cafile=str(authority)) if authority else True
    key = {"x-api-key": deployment.values["HOLDFAST_API_KEY"]}
    options = {"verify": trust, "timeout": 30.0, "trust_env": False}
    with httpx.Client(base_url=deployment.url, headers=key, **options) as caller:  # type: ignore[arg-type]
        yield caller


def test_all_parts_run_and_the_demo_passes(deployment: Composed | Processes) -> None:
    servers = ["api", "api", "callbacks", "queue", "queue"]
    others = ["postgres", "proxy", "valkey"] if isinstance(deployment, Composed) else []
    assert deployment.names() == sorted([*servers, *others])
    said = run(
        [HOLDFAST, "demo"],
        HOLDFAST_URL=deployment.url,
        CALLBACKS_URL=deployment.callbacks_url,
        HOLDFAST_WEBHOOK_URL=deployment.webhook,
        HOLDFAST_API_KEY=deployment.values["HOLDFAST_API_KEY"],
        LG_WEBHOOK_TOKEN=deployment.values["LG_WEBHOOK_TOKEN"],
        SSL_CERT_FILE=str(deployment.authority or ssl.get_default_verify_paths().cafile or ""),
    )
    assert "7 of 7 runs succeeded; 7 callbacks received and verified." in said


@has_podman
def test_outside_there_is_neither_data_nor_metrics_nor_plain_text(
    deployment: Composed, client: httpx.Client
) -> None:
    assert client.get("/ok").json()["ok"] is True
    assert client.get("/ok").headers["strict-transport-security"]
    assert client.get("/metrics").status_code == 404
    assert client.post("/callbacks/runs", json={}).status_code == 404
    assert client.post("/threads/search", json={}, headers={"x-api-key": "wrong"}).status_code == 401
    plain = httpx.get(f"http://localhost:{deployment.values['HOLDFAST_HTTP_PORT']}/ok", trust_env=False)
    assert plain.status_code in (301, 308)
    assert plain.headers["location"].startswith("https://")
    # Postgres and Valkey are not even on a network with a way out.
    for service in ("postgres", "valkey"):
        described = json.loads(deployment.machine.podman("inspect", deployment.container(service)))[0]
        assert list(described["NetworkSettings"]["Networks"]) == ["holdfast-test_data"]
        assert not any(described["NetworkSettings"]["Ports"].values())


@has_podman
def test_prometheus_finds_every_server_by_its_name(deployment: Composed) -> None:
    deployment.run("--profile", "monitoring", "up", "--detach", "--no-recreate", "prometheus")
    deployment.machine.wait_until_healthy(deployment.container("prometheus"))
    url = f"http://127.0.0.1:{deployment.values['PROMETHEUS_PORT']}/api/v1/query"
    up: list[str] = []
    deadline = time.monotonic() + 60
    while len(up) < 4 and time.monotonic() < deadline:
        found = httpx.get(url, params={"query": "up == 1"}, trust_env=False).json()["data"]["result"]
        up = sorted(each["metric"]["role"] for each in found)
        time.sleep(0.5)
    assert up == ["api", "api", "queue", "queue"]


def test_a_queue_that_is_killed_loses_nothing(deployment: Composed | Processes, client: httpx.Client) -> None:
    example = json.loads((PROJECT / "graphs" / "examples" / "trials.json").read_text())
    asked = {"assistant_id": "trials", "input": example, "webhook": deployment.webhook}
    created = []
    for _ in range(RUNS):
        thread = client.post("/threads", json={}).json()["thread_id"]
        created.append((thread, client.post(f"/threads/{thread}/runs", json=asked).json()["run_id"]))
    deployment.kill_a_queue()
    for thread, run_id in created:
        client.get(f"/threads/{thread}/runs/{run_id}/join", timeout=120)
        assert client.get(f"/threads/{thread}/runs/{run_id}").json()["status"] == "success"
    token = {"authorization": f"Bearer {deployment.values['LG_WEBHOOK_TOKEN']}"}
    inbox = f"{deployment.callbacks_url}/callbacks/runs"
    deadline = time.monotonic() + 60
    for _, run_id in created:
        while not _is_verified(client.get(f"{inbox}/{run_id}", headers=token)):
            assert time.monotonic() < deadline, f"no callback of {run_id}"
            time.sleep(0.2)
    deployment.expect_it_back()


def _is_verified(answer: httpx.Response) -> bool:
    return answer.is_success and any(row["verified_at"] for row in answer.json()["callbacks"])


def test_everything_ends_within_its_grace(deployment: Composed | Processes) -> None:
    began = time.monotonic()
    codes = deployment.stop()
    took = time.monotonic() - began
    print(f"stopped in {took:.0f} s: {codes}")
    assert took < STOP_SECONDS
    # 137 would be a kill; 143 is an end of one's own after SIGTERM.
    assert set(codes.values()) <= {0, 143}
    assert deployment.names() == []
