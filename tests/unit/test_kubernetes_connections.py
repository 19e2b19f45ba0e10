"""deploy/kubernetes: who connects to Postgres and Valkey, how often at most, and whether that is allowed."""

from __future__ import annotations

import configparser
import re

import pytest

from langgraph_runtime_holdfast.budget import MARGIN, plan
from langgraph_runtime_holdfast.settings import EngineSettings
from langgraph_runtime_holdfast.valkey_address import read_address
from tests.unit.kubernetes_render import (
    MANIFESTS,
    OURS,
    OVERLAYS,
    PROJECT,
    SERVERS,
    find,
    needs_kubectl,
    pod,
    rendered,
    settings_of,
)

RESERVED = 3
"""Of Postgres, for superusers."""
OF_A_RECEIVER = 5
OF_A_MIGRATION = 3
OF_KEDA = 4
"""As the role's CONNECTION LIMIT has it."""
pytestmark = needs_kubectl


def most(overlay: str) -> dict[str, int]:
    """How many servers of each kind there may be, before anything is rolled out."""
    by_kind = {each["kind"]: each for each in rendered(overlay)}
    if "ScaledObject" in by_kind:
        # Each `apply` would set it back to that number.
        assert not [name for name in SERVERS if "replicas" in find(overlay, "Deployment", name)["spec"]]
        return {
            "api": by_kind["HorizontalPodAutoscaler"]["spec"]["maxReplicas"],
            "queue": by_kind["ScaledObject"]["spec"]["maxReplicaCount"],
        }
    return {name: find(overlay, "Deployment", name)["spec"]["replicas"] for name in SERVERS}


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
    # Only the one that has a statement can cancel it.
    assert find("large", "Service", "pgbouncer")["spec"]["sessionAffinity"] == "ClientIP"
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


def test_all_who_ask_the_providers_postgres_have_its_authority() -> None:
    told, page = _pgbouncer(), (PROJECT / "docs" / "deploy.md").read_text()
    assert told["server_tls_sslmode"] == "verify-full"
    folder, _, file = told["server_tls_ca_file"].rpartition("/")
    assert f"?sslmode=verify-full&sslrootcert={folder}/{file}'" in page
    for name in ("pgbouncer", "migrate", "callbacks"):
        spec = pod("large", name)
        mounts = {each["mountPath"]: each["name"] for each in spec["containers"][0]["volumeMounts"]}
        (volume,) = [each for each in spec["volumes"] if each["name"] == mounts[folder]]
        assert f"create secret generic {volume['secret']['secretName']} --from-file={file}=" in page
