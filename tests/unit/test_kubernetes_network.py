"""deploy/kubernetes: who may talk to whom, as a network that enforces the policies decides it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from tests.unit.kubernetes_render import OVERLAYS, PROJECT, Document, needs_kubectl, rendered

pytestmark = needs_kubectl


@dataclass(frozen=True)
class Place:
    """A pod of ours, a pod of another namespace, or an address outside of the cluster."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = "holdfast"
    address: str = ""


DNS = Place(namespace="kube-system")
GATEWAY = Place(namespace="envoy-gateway-system")
PROMETHEUS = Place(namespace="monitoring")
KEDA = Place(namespace="keda")
OPERATOR = Place({"app.kubernetes.io/name": "cloudnative-pg"}, "cnpg-system")
STRANGER = Place(namespace="default")
OUTSIDE = Place(namespace="", address="203.0.113.9")
METADATA = Place(namespace="", address="169.254.169.254")
# The cluster's API, as addresses of Services and machines usually are, and somebody's own network.
WITHIN = [
    Place(namespace="", address=each) for each in ("10.96.0.1", "172.20.0.1", "192.168.1.2", "100.64.0.9")
]
# As CloudNativePG labels its instances, and the jobs that make them.
CLUSTER = Place({"cnpg.io/cluster": "postgres"})


def place(overlay: str, name: str) -> Place:
    """The pods that something makes."""
    made = next(
        each
        for each in rendered(overlay)
        if each["kind"] in ("Deployment", "StatefulSet", "Job") and each["metadata"]["name"] == name
    )
    return Place(made["spec"]["template"]["metadata"]["labels"])


def selects(selector: Document, labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    assert all(each["operator"] == "In" for each in selector.get("matchExpressions", []))
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", [])
    )


def is_peer(peer: Document, other: Place) -> bool:
    if block := peer.get("ipBlock"):
        if not other.address:
            return False
        address = ipaddress.ip_address(other.address)
        return address in ipaddress.ip_network(block["cidr"]) and not any(
            address in ipaddress.ip_network(each) for each in block.get("except", [])
        )
    if other.address:
        return False
    if "namespaceSelector" in peer:
        named = {"kubernetes.io/metadata.name": other.namespace}
        if not selects(peer["namespaceSelector"], named):
            return False
    elif other.namespace != "holdfast":
        return False
    return selects(peer.get("podSelector", {}), other.labels)


def is_named(peers: list[Document] | None, other: Place) -> bool:
    """Whether a rule is about a place; one that names nobody is about everybody."""
    return not peers or any(is_peer(peer, other) for peer in peers)


def lets(overlay: str, way: str, mine: Place, other: Place, port: int) -> bool:
    """Whether the policies of one side let the other one through; `way` is Ingress or Egress."""
    if mine.namespace != "holdfast":
        return True
    policies = [
        each["spec"]
        for each in rendered(overlay)
        if each["kind"] == "NetworkPolicy"
        and way in each["spec"]["policyTypes"]
        and selects(each["spec"]["podSelector"], mine.labels)
    ]
    rules: list[dict[str, Any]] = [rule for policy in policies for rule in policy.get(way.lower(), [])]
    return not policies or any(
        any(each["port"] == port for each in rule.get("ports", [{"port": port}]))
        and is_named(rule.get("to" if way == "Egress" else "from"), other)
        for rule in rules
    )


def reaches(overlay: str, source: Place, target: Place, port: int) -> bool:
    return lets(overlay, "Egress", source, target, port) and lets(overlay, "Ingress", target, source, port)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_those_who_need_each_other_reach_each_other(overlay: str) -> None:
    api, queue, callbacks, migrate = (
        place(overlay, name) for name in ("api", "queue", "callbacks", "migrate")
    )
    needed = {
        "callers": (GATEWAY, api, 8000),
        "what the receiver asks": (callbacks, api, 8000),
        "callbacks of the queue": (queue, callbacks, 2025),
        "callbacks of the api": (api, callbacks, 2025),
        "figures of the api": (PROMETHEUS, api, 8000),
        "figures of the queue": (PROMETHEUS, queue, 8000),
        "models": (queue, OUTSIDE, 443),
        "names": (migrate, DNS, 53),
    }
    databases = {"small": Place() if overlay != "small" else place("small", "postgres"), "ha": CLUSTER}
    database = databases.get(overlay, OUTSIDE)
    valkey = OUTSIDE if overlay == "large" else place(overlay, "valkey")
    for name, each in {"api": api, "queue": queue}.items():
        pooler = place("large", "pgbouncer") if overlay == "large" else database
        needed[f"{name} to its database"] = (each, pooler, 5432)
        needed[f"{name} to Valkey"] = (each, valkey, 6379)
    needed |= {"migrations": (migrate, database, 5432), "the inbox": (callbacks, database, 5432)}
    if overlay == "large":
        needed["the pooler"] = (place("large", "pgbouncer"), OUTSIDE, 5432)
    if overlay == "ha":
        needed |= {
            "the operator's look": (OPERATOR, CLUSTER, 8000),
            "the operator's statements": (OPERATOR, CLUSTER, 5432),
            "replication": (CLUSTER, CLUSTER, 5432),
            "instances about each other": (CLUSTER, CLUSTER, 8000),
            "instances to the cluster's API": (CLUSTER, OUTSIDE, 443),
            "the same, past its Service": (CLUSTER, OUTSIDE, 6443),
            "names for instances": (CLUSTER, DNS, 53),
            "figures of Postgres": (PROMETHEUS, CLUSTER, 9187),
            "how much work there is": (KEDA, CLUSTER, 5432),
            "Sentinels": (queue, valkey, 26379),
            "Sentinels among themselves": (valkey, valkey, 26379),
        }
    assert not [name for name, way in needed.items() if not reaches(overlay, *way)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_else_reaches_anything(overlay: str) -> None:
    api, queue, callbacks = (place(overlay, name) for name in ("api", "queue", "callbacks"))
    shut = {
        "a stranger to the api": (STRANGER, api, 8000),
        "a stranger to the receiver": (STRANGER, callbacks, 2025),
        "callers to the queue": (GATEWAY, queue, 8000),
        "the machine's secrets": (queue, METADATA, 443),
        "the world's names": (queue, OUTSIDE, 53),
        "the api to the world": (api, OUTSIDE, 443),
        "the receiver to Valkey": (callbacks, api, 6379),
    }
    for each in WITHIN:
        shut |= {
            f"the queue to {each.address}": (queue, each, 443),
            f"the receiver to {each.address}": (callbacks, each, 443),
        }
    if overlay == "large":
        shut["the pooler to the world's names"] = (place("large", "pgbouncer"), OUTSIDE, 53)
    if overlay != "large":
        shut["the receiver to the hints"] = (callbacks, place(overlay, "valkey"), 6379)
        database = CLUSTER if overlay == "ha" else place("small", "postgres")
        shut["a stranger to the database"] = (STRANGER, database, 5432)
        shut["callers to the database"] = (GATEWAY, database, 5432)
    if overlay == "small":
        shut["the database to the world"] = (place("small", "postgres"), OUTSIDE, 443)
    if overlay == "ha":
        shut["an agent to the operator's port"] = (queue, CLUSTER, 8000)
    assert not [name for name, way in shut.items() if reaches(overlay, *way)]


def test_the_page_lets_the_queue_reach_a_gateway_of_ones_own() -> None:
    found = re.search(
        r"^ *```yaml\n( *apiVersion: networking.k8s.io/v1\n.*?)^ *```",
        (PROJECT / "docs" / "deploy.md").read_text(),
        re.M | re.S,
    )
    assert found
    spec = yaml.safe_load(found[1])["spec"]
    assert selects(spec["podSelector"], place("small", "queue").labels)
    (rule,) = spec["egress"]
    assert is_named(rule["to"], Place(namespace="", address="10.20.30.40"))
    assert not is_named(rule["to"], WITHIN[0])
    assert spec["policyTypes"] == ["Egress"]
