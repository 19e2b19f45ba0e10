"""deploy/kubernetes as `kubectl kustomize` renders it: valid, and at one with image, engine and docs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema_rs
import kubernetes_validate
import pytest
import typer
import yaml
from starlette.applications import Starlette
from starlette.routing import Route

from langgraph_runtime_holdfast.__main__ import app as engine_commands
from langgraph_runtime_holdfast.health import queue_app
from langgraph_runtime_holdfast.probe import port_of
from langgraph_runtime_holdfast.serve import DRAIN_CONNECTIONS_SECONDS
from langgraph_runtime_holdfast.settings import EngineSettings
from sdk_client.callbacks import settings as callbacks
from tests.unit.kubernetes_kinds import SPECS
from tests.unit.kubernetes_render import (
    MANIFESTS,
    OURS,
    OVERLAYS,
    PROJECT,
    SERVERS,
    Document,
    find,
    needs_kubectl,
    pod,
    pods,
    render_folder,
    rendered,
    settings_of,
)

# An old one that is still supported, and the newest that is known here.
VERSIONS = ("1.32", "1.37")
pytestmark = needs_kubectl


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
        "components": ["../../manifests/components/external-secret", "../../manifests/components/gateway"],
    }
    # Kustomize takes no absolute paths.
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    (own := tmp_path / "own" / "site").mkdir(parents=True)
    (own / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    documents = render_folder(own)
    check(tuple(each for each in documents if each["kind"] in ("ExternalSecret", "HTTPRoute")))
    by_kind = {each["kind"]: each for each in documents}
    services = {each["metadata"]["name"]: each["spec"] for each in documents if each["kind"] == "Service"}
    shut, open_to_all = by_kind["HTTPRoute"]["spec"]["rules"]
    assert shut["matches"] == [{"path": {"type": "Exact", "value": "/metrics"}}]
    assert shut["backendRefs"][0]["name"] not in services
    (served,) = open_to_all["backendRefs"]
    assert served["port"] in {each["port"] for each in services[served["name"]]["ports"]}
    given = {each["secretKey"] for each in by_kind["ExternalSecret"]["spec"]["data"]}
    assert given >= secret_keys("large")
    assert given - secret_keys("large") == {
        "HOLDFAST_API_KEY",
        "LG_WEBHOOK_TOKEN",
        "LG_WEBHOOK_SIGNING_SECRET",
        "DATABASE_URI",
        "REDIS_URI",
    }


def with_component(tmp_path: Path, overlay: str, component: str) -> tuple[Document, ...]:
    """What an overlay makes with one more part."""
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    own = tmp_path / "manifests" / "overlays" / "own"
    own.mkdir()
    kustomization = {"resources": [f"../{overlay}"], "components": [f"../../components/{component}"]}
    (own / "kustomization.yaml").write_text(yaml.safe_dump({"namespace": "holdfast", **kustomization}))
    return render_folder(own)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_backup_may_reach_postgres_and_no_more(tmp_path: Path, overlay: str) -> None:
    documents = with_component(tmp_path, overlay, "backup")
    added = [each for each in documents if each not in rendered(overlay)]
    check(tuple(added))
    assert sorted(each["kind"] for each in added) == [
        "CronJob",
        "NetworkPolicy",
        "NetworkPolicy",
        "PersistentVolumeClaim",
    ], "it changes nothing that is there"
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in documents}
    job = by_name["CronJob", "backup"]["spec"]["jobTemplate"]["spec"]["template"]
    spec, (container,) = job["spec"], job["spec"]["containers"]
    migrates = pod(overlay, "migrate")
    assert spec["securityContext"].items() >= migrates["securityContext"].items()
    assert container["securityContext"] == migrates["containers"][0]["securityContext"]
    assert not spec["automountServiceAccountToken"]
    assert container["image"] == "registry.example.org/holdfast-backup:0.1.0"
    assert by_name["NetworkPolicy", "backup"]["spec"]["egress"] == [{"ports": [{"port": 5432}]}]
    served = {
        "small": {"app.kubernetes.io/name": "postgres", "app.kubernetes.io/part-of": "holdfast"},
        "ha": {"cnpg.io/cluster": "postgres"},
    }.get(overlay)
    if served is not None:
        assert job["metadata"]["labels"]["app.kubernetes.io/component"] in callers(documents, served, 5432)
    (mount,) = [each for each in container["volumeMounts"] if each["mountPath"] == "/backups"]
    (volume,) = [each for each in spec["volumes"] if each["name"] == mount["name"]]
    assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in by_name
    # What it reads by name the page makes, and what it runs the page says.
    (variable,) = container["env"]
    secret = variable["valueFrom"]["secretKeyRef"]
    page = (PROJECT / "docs" / "backup.md").read_text()
    assert f"create secret generic {secret['name']}" in page
    assert f"--from-literal={secret['key']}=" in page
    assert "components/backup" in page
    shell, options, script = container["args"]
    assert (shell, options) == ("sh", "-ec")
    words = script.splitlines()[0].split()
    assert words[:2] == ["holdfast", "backup"]
    commands = typer.main.get_command(engine_commands)
    assert isinstance(commands, typer.core.TyperGroup)
    asked = commands.commands["backup"].make_context("backup", words[2:]).params
    assert asked["folder"] == Path(mount["mountPath"])


def callers(documents: tuple[Document, ...], labels: dict[str, str], port: int) -> set[str]:
    """Which of our parts the policies let in to pods with these labels."""
    found: set[str] = set()
    for each in documents:
        if each["kind"] != "NetworkPolicy":
            continue
        chosen = each["spec"]["podSelector"].get("matchLabels")
        if chosen is None or not chosen.items() <= labels.items():
            continue
        for rule in each["spec"].get("ingress", []):
            if {"port": port} not in rule["ports"]:
                continue
            for source in rule["from"]:
                selector = source.get("podSelector", {})
                found |= {selector.get("matchLabels", {}).get("app.kubernetes.io/component", "")}
                found |= {name for one in selector.get("matchExpressions", []) for name in one["values"]}
    return found - {""}


def test_the_policy_for_all_leaves_the_operators_postgres_its_callers() -> None:
    documents = rendered("ha")
    # It chooses every pod of the namespace, so also those that an operator makes.
    assert find("ha", "NetworkPolicy", "nobody")["spec"]["podSelector"] == {}
    cluster = find("ha", "Cluster", "postgres")["metadata"]["name"]
    assert {*OURS} <= callers(documents, {"cnpg.io/cluster": cluster}, 5432)


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
        budget = find(overlay, "PodDisruptionBudget", name)["spec"]
        assert budget["selector"]["matchLabels"].items() <= labels
        # Where there is one pod, `minAvailable` would keep its node from ever being emptied.
        assert (budget["maxUnavailable"], "minAvailable" in budget) == (1, False)
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
