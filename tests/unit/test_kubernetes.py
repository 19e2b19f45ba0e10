"""deploy/kubernetes as `kubectl kustomize` renders it: valid, and at one with image, engine and docs."""

from __future__ import annotations

import configparser
import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest
import yaml
from starlette.applications import Starlette
from starlette.routing import Route

from langgraph_runtime_holdfast.budget import MARGIN, plan
from langgraph_runtime_holdfast.health import queue_app
from langgraph_runtime_holdfast.probe import port_of
from langgraph_runtime_holdfast.serve import DRAIN_CONNECTIONS_SECONDS
from langgraph_runtime_holdfast.settings import EngineSettings
from langgraph_runtime_holdfast.valkey_address import read_address
from sdk_client.callbacks import settings as callbacks
from tests.unit.kubernetes_kinds import SPECS

PROJECT = Path(__file__).resolve().parents[2]
MANIFESTS = PROJECT / "deploy" / "kubernetes"
OVERLAYS = ("small", "large", "ha")
SERVERS = ("api", "queue")
OURS = (*SERVERS, "callbacks", "migrate")
# An old one that is still supported, and the newest that is known here.
VERSIONS = ("1.32", "1.37")
RESERVED = 3
"""Of Postgres, for superusers."""
OF_A_RECEIVER = 5
OF_A_MIGRATION = 3
OF_KEDA = 4
"""As the role's CONNECTION LIMIT has it."""
Document = dict[str, Any]

pytestmark = pytest.mark.skipif(
    not shutil.which("kubectl"), reason="kubectl is not on the PATH: it renders the manifests"
)


@functools.cache
def _rendered(folder: Path) -> tuple[Document, ...]:
    told = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert "deprecated" not in told.stderr, told.stderr
    return tuple(yaml.safe_load_all(told.stdout))


def rendered(overlay: str) -> tuple[Document, ...]:
    return _rendered(MANIFESTS / "overlays" / overlay)


def find(overlay: str, kind: str, name: str) -> Document:
    return next(
        each for each in rendered(overlay) if each["kind"] == kind and each["metadata"]["name"] == name
    )


def pods(overlay: str) -> Iterator[tuple[str, Document]]:
    """Each pod that the overlay makes, by the name of what makes it."""
    for each in rendered(overlay):
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def pod(overlay: str, name: str) -> Document:
    return dict(pods(overlay))[name]


def settings_of(overlay: str) -> dict[str, str]:
    (found,) = [
        each["data"]
        for each in rendered(overlay)
        if each["kind"] == "ConfigMap" and each["metadata"]["name"].startswith("holdfast-")
    ]
    return {name: str(value) for name, value in found.items()}


def most(overlay: str) -> dict[str, int]:
    """How many servers of each kind there may be, before anything is rolled out."""
    by_kind = {each["kind"]: each for each in rendered(overlay)}
    if "ScaledObject" in by_kind:
        return {
            "api": by_kind["HorizontalPodAutoscaler"]["spec"]["maxReplicas"],
            "queue": by_kind["ScaledObject"]["spec"]["maxReplicaCount"],
        }
    return {name: find(overlay, "Deployment", name)["spec"]["replicas"] for name in SERVERS}


def check(documents: tuple[Document, ...]) -> None:
    for document in documents:
        own = SPECS.get((document["apiVersion"], document["kind"]))
        if own is not None:
            jsonschema_rs.validate(own, document["spec"])
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_valid_and_nothing_is_there_twice(overlay: str) -> None:
    documents = rendered(overlay)
    check(documents)
    names = [(each["kind"], each["metadata"]["name"]) for each in documents]
    assert len(names) == len(set(names))
    assert all(
        each["metadata"].get("namespace") == "holdfast" for each in documents if each["kind"] != "Namespace"
    )


def test_the_optional_parts_are_valid_too(tmp_path: Path) -> None:
    kustomization = {
        "resources": [str(Path("..") / ".." / "manifests" / "overlays" / "small")],
        "components": ["../../manifests/components/external-secret", "../../manifests/components/ingress"],
    }
    # Kustomize takes no absolute paths.
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    (own := tmp_path / "own" / "site").mkdir(parents=True)
    (own / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    documents = _rendered(own)
    check(tuple(each for each in documents if each["kind"] in ("ExternalSecret", "Ingress")))
    by_kind = {each["kind"]: each for each in documents}
    assert by_kind["Ingress"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"] == {
        "name": "api",
        "port": {"name": "http"},
    }
    given = {each["secretKey"] for each in by_kind["ExternalSecret"]["spec"]["data"]}
    assert given >= secret_keys("large")
    assert given - secret_keys("large") == {
        "HOLDFAST_API_KEY",
        "LG_WEBHOOK_TOKEN",
        "LG_WEBHOOK_SIGNING_SECRET",
        "DATABASE_URI",
        "REDIS_URI",
    }


def secret_keys(overlay: str) -> set[str]:
    """What is taken from the Secret `holdfast` by name."""
    return {
        each["valueFrom"]["secretKeyRef"]["key"]
        for _, spec in pods(overlay)
        for container in spec["containers"]
        for each in container.get("env", [])
        if each.get("valueFrom", {}).get("secretKeyRef", {}).get("name") == "holdfast"
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_page_makes_every_secret_that_is_asked_for(overlay: str) -> None:
    page = (PROJECT / "docs" / "deploy.md").read_text()
    section = page.split("## Kubernetes", 1)[1].split("\n## ", 1)[0]
    made = set(re.findall(r"--from-literal=([A-Z_]+)=", section))
    assert {"HOLDFAST_API_KEY", "LG_WEBHOOK_TOKEN"} | secret_keys(overlay) <= made
    assert not [each for each in rendered(overlay) if each["kind"] == "Secret"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_has_a_right_that_is_not_needed(overlay: str) -> None:
    assert (
        find(overlay, "Namespace", "holdfast")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        == "restricted"
    )
    for name, spec in pods(overlay):
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert "memory" in container["resources"]["limits"], name
            mounts = {each["mountPath"] for each in container["volumeMounts"]}
            assert "/tmp" in mounts, name  # noqa: S108
    user = int(re.search(r"^USER (\d+)", (PROJECT / "deploy" / "Dockerfile").read_text(), re.M)[1])  # type: ignore[index]
    assert all(pod(overlay, name)["securityContext"]["runAsUser"] == user for name in OURS)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_commands_are_those_of_the_image_and_ports_and_probes_are_theirs(overlay: str) -> None:
    page = (PROJECT / "docs" / "deploy.md").read_text()
    documented = set(re.findall(r"\| `((?:holdfast|python) [^`]+)` *[|,]", page))
    answered = {
        "api": paths(),
        "callbacks": {"/ok"},
    }
    answered["queue"] = answered["api"]
    for name in OURS:
        (container,) = pod(overlay, name)["containers"]
        # tini is the image's entrypoint, and `command` would replace it.
        assert "command" not in container
        assert " ".join(container["args"]) in documented
        assert container["image"] == "registry.example.org/holdfast:0.1.0"
        port = port_of(container["args"])
        assert [each["containerPort"] for each in container.get("ports", [])] == ([port] if port else [])
        if name == "migrate":
            continue
        (served,) = find(overlay, "Service", name)["spec"]["ports"]
        assert (served["port"], served["targetPort"]) == (port, container["ports"][0]["name"])
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            path, _, query = container[probe]["httpGet"]["path"].partition("?")
            assert path in answered[name]
            # A server that cannot reach Postgres takes no calls, and is not restarted for it.
            assert query == ("check_db=1" if probe == "readinessProbe" and name != "callbacks" else "")
        # The page promises an answer within three seconds.
        assert container["readinessProbe"]["timeoutSeconds"] > 3
        start = container["startupProbe"]
        assert start["periodSeconds"] * start["failureThreshold"] >= 60


def paths() -> set[str]:
    """What servers answer beside the API."""
    app = queue_app(None)
    assert isinstance(app, Starlette)
    return {route.path for route in app.routes if isinstance(route, Route)}


def test_prometheus_finds_the_servers() -> None:
    (monitor,) = [each for each in rendered("large") if each["kind"] == "ServiceMonitor"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] in paths()
    # As compose's Prometheus calls them, which alerts and dashboard ask for.
    scraped = yaml.safe_load((PROJECT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    job = {
        find("large", "Service", name)["metadata"]["labels"][monitor["spec"]["jobLabel"]] for name in SERVERS
    }
    assert job == {each["job_name"] for each in scraped["scrape_configs"]}
    wanted = {each["key"]: each["values"] for each in monitor["spec"]["selector"]["matchExpressions"]}
    for name in SERVERS:
        service = find("large", "Service", name)
        assert all(service["metadata"]["labels"][key] in values for key, values in wanted.items())
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_the_pages_command_hands_the_alerts_to_the_operator() -> None:
    command = re.search(
        r"^  (\{ printf .*?\}) \| kubectl apply", (PROJECT / "docs/deploy.md").read_text(), re.M | re.S
    )
    assert command
    told = subprocess.run(["bash", "-c", command[1]], cwd=PROJECT, capture_output=True, text=True, check=True)
    rule = yaml.safe_load(told.stdout)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((PROJECT / "deploy" / "prometheus" / "alerts.yml").read_text())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_is_killed_while_it_drains(overlay: str) -> None:
    grace = {name: spec["terminationGracePeriodSeconds"] for name, spec in pods(overlay)}
    pause = pod(overlay, "api")["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert grace["api"] >= pause + DRAIN_CONNECTIONS_SECONDS + 10
    assert grace["queue"] >= int(settings_of(overlay)["BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS"]) + 10
    handler = callbacks.CallbackSettings.model_fields["handler_timeout_seconds"].default
    assert grace["callbacks"] >= handler + 10
    for name in (*SERVERS, "callbacks"):
        deployment = find(overlay, "Deployment", name)["spec"]
        assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        labels = deployment["template"]["metadata"]["labels"].items()
        assert find(overlay, "PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"].items() <= labels
        spread = deployment["template"]["spec"]["topologySpreadConstraints"]
        assert {each["topologyKey"] for each in spread} == {
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_variables_are_documented_ones_and_reach_all_parts(overlay: str) -> None:
    example = (PROJECT / ".env.example").read_text()
    documented = set(re.findall(r"^# ([A-Z][A-Z0-9_]+)=", example, re.M))
    # Of the stock server: docs/engine.md.
    documented |= {"BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS", "LANGGRAPH_WEBHOOKS", "LOG_JSON"}
    settings = settings_of(overlay)
    assert settings.keys() <= documented
    assert settings["HOLDFAST_MIGRATE"] == "false"
    assert EngineSettings.model_fields["migrates"].alias == "HOLDFAST_MIGRATE"
    assert not [name for name in settings if re.search("PASSWORD|TOKEN|SECRET|KEY$", name)]
    (config,) = [
        each["metadata"]
        for each in rendered(overlay)
        if each["kind"] == "ConfigMap" and each["metadata"]["name"].startswith("holdfast-")
    ]
    # `kubectl apply --selector …=migrate` brings what the Job reads.
    assert config["labels"]["app.kubernetes.io/component"] == "migrate"
    for name in OURS:
        (container,) = pod(overlay, name)["containers"]
        assert container["envFrom"] == [
            {"configMapRef": {"name": config["name"]}},
            {"secretRef": {"name": "holdfast"}},
        ]
        known: set[str] = set()
        for each in container.get("env", []):
            assert each["name"] in documented
            # An earlier variable, or none: Kubernetes leaves later ones as they are written.
            assert set(re.findall(r"\$\((\w+)\)", each.get("value", ""))) <= known
            known.add(each["name"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_webhooks_are_those_of_the_manifest_without_loopback(overlay: str) -> None:
    declared = json.loads((PROJECT / "langgraph.json").read_text())["webhooks"]
    told = json.loads(settings_of(overlay)["LANGGRAPH_WEBHOOKS"])
    assert (
        told["url"].pop("allowed_domains")
        == ["callbacks"]
        == [find(overlay, "Service", "callbacks")["metadata"]["name"]]
    )
    declared["url"].pop("allowed_domains")
    assert told == declared


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_that_may_be_there_at_once_fits_into_the_database(overlay: str) -> None:
    # While a rollout lasts, an old pod that drains is not counted by Kubernetes: each may be there twice.
    servers = {name: 2 * count for name, count in most(overlay).items()}
    settings = settings_of(overlay)
    assert int(settings["HOLDFAST_REPLICAS"]) == sum(servers.values())
    given = _max_connections(overlay)
    share = (given - RESERVED - MARGIN) // sum(servers.values())
    jobs = {"api": 0, "queue": int(settings["N_JOBS_PER_WORKER"])}
    if overlay == "large":
        pooler = _pgbouncer()
        clients = sum(
            count * plan(jobs=jobs[name], isolated=False, bound=None, share=None).total
            for name, count in servers.items()
        )
        assert clients <= int(pooler["max_client_conn"])
        # One more, for what a lost node's may still hold.
        taken = (find("large", "Deployment", "pgbouncer")["spec"]["replicas"] + 1) * int(
            pooler["default_pool_size"]
        )
    else:
        assert share >= 20, "pools would be too small for their jobs"
        taken = sum(
            count * plan(jobs=jobs[name], isolated=False, bound=None, share=share).total
            for name, count in servers.items()
        )
    receivers = 2 * find(overlay, "Deployment", "callbacks")["spec"]["replicas"]
    others = receivers * OF_A_RECEIVER + OF_A_MIGRATION + OF_KEDA
    assert taken + others + RESERVED + MARGIN <= given


def _max_connections(overlay: str) -> int:
    if overlay == "small":
        text = " ".join(pod(overlay, "postgres")["containers"][0]["args"])
    elif overlay == "large":
        text = (MANIFESTS / "overlays" / "large" / "pgbouncer.ini").read_text().replace(" = ", "=")
    else:
        parameters = find(overlay, "Cluster", "postgres")["spec"]["postgresql"]["parameters"]
        return int(parameters["max_connections"])
    return int(re.search(r"max_connections=(\d+)", text)[1])  # type: ignore[index]


def _pgbouncer() -> dict[str, str]:
    parser = configparser.ConfigParser(comment_prefixes=(";",))
    parser.read(MANIFESTS / "overlays" / "large" / "pgbouncer.ini")
    return dict(parser["pgbouncer"])


def test_pgbouncer_is_as_the_page_about_connections_says() -> None:
    told, page = _pgbouncer(), (PROJECT / "docs" / "connections.md").read_text()
    assert "| `pool_mode` | `transaction` |" in page
    assert told["pool_mode"] == "transaction"
    assert int(told["default_pool_size"]) >= 5
    assert told["idle_transaction_timeout"] == told["server_reset_query_always"] == "0"
    # It takes a second signal, as the one after preStop, for a wish to end at once: that one must come late.
    spec = pod("large", "pgbouncer")
    ending = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    before, after = re.fullmatch(r"sleep (\d+); kill -INT 1; sleep (\d+)", ending).groups()  # type: ignore[union-attr]
    assert int(before) > 0
    assert int(after) > EngineSettings.model_fields["statement_seconds"].default
    assert int(before) + int(after) < spec["terminationGracePeriodSeconds"]
    # Migrations and the receiver go to Postgres itself: only servers have another address.
    others = {name for name in OURS if "env" not in pod("large", name)["containers"][0]}
    assert others == {"migrate", "callbacks"}
    assert int(told["listen_port"]) == find("large", "Service", "pgbouncer")["spec"]["ports"][0]["port"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_addressed_may_be_reached(overlay: str) -> None:
    named = {each["metadata"]["name"] for each in rendered(overlay) if each["kind"] == "Service"}
    # CloudNativePG makes it.
    named |= {"postgres-rw"} if overlay == "ha" else set()
    for name in OURS:
        for each in pod(overlay, name)["containers"][0].get("env", []):
            for host in re.findall(r"[@,](?:[\w-]+\.)?([a-z-]+):\d+", each.get("value", "")):
                assert host in named
            if each["name"] == "REDIS_URI":
                kind = "sentinel" if overlay == "ha" else "server"
                address = read_address(each["value"].replace("$(VALKEY_PASSWORD)", "secret"))
                assert (address.kind, address.master) == (kind, "holdfast" if overlay == "ha" else "")
    policies = {
        each["metadata"]["name"]: each["spec"]
        for each in rendered(overlay)
        if each["kind"] == "NetworkPolicy"
    }
    assert policies["nobody"]["policyTypes"] == ["Ingress", "Egress"]
    for name in (*SERVERS, "callbacks"):
        (rule,) = policies[name]["ingress"]
        assert [each["port"] for each in rule["ports"]] == [
            pod(overlay, name)["containers"][0]["ports"][0]["containerPort"]
        ]


def test_the_commands_of_an_upgrade_name_what_is_there() -> None:
    page = (PROJECT / "docs" / "upgrading.md").read_text()
    assert "cd deploy/kubernetes/overlays/large" in page
    kinds = {"deployment": "Deployment", "job": "Job"}
    named = re.findall(r"\b(deployment|job)[/ ]([a-z]+)", "\n".join(re.findall(r"kubectl [^\n`]+", page)))
    assert {name for _, name in named} == {"api", "queue", "migrate"}
    for kind, name in named:
        assert find("large", kinds[kind], name)
    label = re.search(r"--selector ([\w./]+)=(\w+)", page)
    assert label
    chosen = [
        each["kind"]
        for each in rendered("large")
        if each["metadata"].get("labels", {}).get(label[1]) == label[2]
    ]
    assert sorted(chosen) == ["ConfigMap", "Job"]
