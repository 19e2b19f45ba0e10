"""docker-compose.yml as compose renders it: who may do what, who is told what, and how each part ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from langgraph_runtime_holdfast.budget import MARGIN, plan
from langgraph_runtime_holdfast.local.settings import DEFAULT_PORTS
from langgraph_runtime_holdfast.settings import EngineSettings
from sdk_client.callbacks.settings import CallbackSettings
from sdk_client.settings import ClientSettings
from tests.deploy.rig.composed import render, rendered

PROJECT = Path(__file__).resolve().parents[2]
SECRETS = ("HOLDFAST_API_KEY", "LG_WEBHOOK_TOKEN", "POSTGRES_PASSWORD", "VALKEY_PASSWORD")
PROFILES = ("monitoring", "official")
ENGINE = ("api", "queue", "migrate")
AGENTS = {"MODEL", "MODEL_FALLBACK", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HOLDFAST_DATA_DIR"}
SERVER = {
    *("HOLDFAST_API_KEY", "LG_WEBHOOK_TOKEN", "LANGGRAPH_HTTP", "LANGGRAPH_STORE"),
    *("LANGSMITH_API_KEY", "LANGSMITH_TRACING", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"),
}
# The file says it itself: who the neighbours are.
GIVEN = {"DATABASE_URI", "POSTGRES_URI", "REDIS_URI", "HOLDFAST_URL"}
# What the file is made with, and what no container reads.
OF_THE_FILE = {
    *("HOLDFAST_IMAGE", "HOLDFAST_OFFICIAL_IMAGE", "HOLDFAST_BIND", "HOLDFAST_PUBLISHED_PORT"),
    *("HOLDFAST_HTTP_PORT", "HOLDFAST_OFFICIAL_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT"),
    *("API_REPLICAS", "QUEUE_REPLICAS", "POSTGRES_MAX_CONNECTIONS"),
}
OF_THIS_MACHINE = {"HOLDFAST_HOME", "HOLDFAST_DEBUG", "HOLDFAST_POSTGRES_PROGRAMS", *DEFAULT_PORTS}


def aliases(*settings: type) -> set[str]:
    found: set[str] = set()
    for each in settings:
        for field in each.model_fields.values():  # type: ignore[attr-defined]
            alias = field.validation_alias or field.alias
            found |= {alias} if isinstance(alias, str) else set(alias.choices)
    return found


def documented() -> set[str]:
    return set(re.findall(r"^# ([A-Z][A-Z0-9_]+)=", (PROJECT / ".env.example").read_text(), re.M))


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Nothing set but the secrets."""
    env_file = tmp_path_factory.mktemp("compose") / "env"
    env_file.write_text("".join(f"{name}=secret-{number}\n" for number, name in enumerate(SECRETS)))
    return rendered(env_file, *PROFILES)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The variables of each service where every documented one is set to its own name."""
    env_file = tmp_path_factory.mktemp("told") / "env"
    names = documented() - OF_THE_FILE
    env_file.write_text("".join(f"{name}=is-{name}\n" for name in names))
    services = rendered(env_file, *PROFILES)["services"]
    return {name: handed_on(service.get("environment", {})) for name, service in services.items()}


def handed_on(environment: dict[str, str | None]) -> dict[str, str]:
    """A variable without a value is the one of the same name, where that is set."""
    return {name: f"is-{name}" if value is None else value for name, value in environment.items()}


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_every_service_is_bounded_and_has_no_right_that_it_does_not_need(compose: dict[str, Any]) -> None:
    extra = {
        "proxy": {"NET_BIND_SERVICE"},
        "postgres": (postgres := {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}),
        "official-postgres": postgres,
    }
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert set(service.get("cap_add", [])) == extra.get(name, set()), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        # The official image is not ours to change.
        assert service["read_only"] is (name != "official"), name
        assert not {"network_mode", "privileged", "pid", "ipc"} & service.keys(), name
        assert name == "migrate" or {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys(), (
            name
        )
        assert name == "migrate" or service["healthcheck"]["test"], name
        assert service["restart"] == ("on-failure" if name == "migrate" else "unless-stopped"), name


def test_only_the_proxy_is_for_others_and_the_data_is_for_nobody(compose: dict[str, Any]) -> None:
    services = compose["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published.keys() == {"proxy", "official", "prometheus", "grafana"}
    assert all(str(port).startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert compose["networks"]["data"] == {"internal": True}
    for name in ("postgres", "valkey", "official-postgres"):
        assert services[name]["networks"] == ["data"]
    assert services["proxy"]["networks"] == ["front"]


def test_a_start_waits_for_what_it_needs(compose: dict[str, Any]) -> None:
    needs = {
        name: {each: condition["condition"] for each, condition in service.get("depends_on", {}).items()}
        for name, service in compose["services"].items()
    }
    healthy = "service_healthy"
    servers = {"postgres": healthy, "valkey": healthy, "migrate": "service_completed_successfully"}
    assert needs["api"] == needs["queue"] == servers
    assert needs["migrate"] == {"postgres": healthy}
    assert needs["proxy"] == {"api": healthy}
    assert needs["callbacks"] == {"postgres": healthy, "api": healthy}


@pytest.mark.parametrize("missing", SECRETS)
def test_no_secret_has_a_default(tmp_path: Path, missing: str) -> None:
    text = (PROJECT / "docker-compose.yml").read_text()
    uses = re.findall(rf"\$\{{{missing}[^}}]*\}}", text)
    assert uses
    assert all(use.startswith(f"${{{missing}:?") for use in uses)
    env_file = tmp_path / "env"
    env_file.write_text("".join(f"{name}=a-secret\n" for name in SECRETS if name != missing))
    refused = render(env_file)
    assert refused.returncode != 0
    assert f"set {missing} in .env" in refused.stderr


def test_nothing_is_killed_while_it_drains(compose: dict[str, Any]) -> None:
    for name in ("queue", "official"):
        service = compose["services"][name]
        drain = int(service["environment"]["BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS"])
        assert seconds(service["stop_grace_period"]) >= drain + 10, name
    # A handler of callbacks may take its time; a migration waits for others' transactions.
    assert seconds(compose["services"]["callbacks"]["stop_grace_period"]) > 60 + 10
    assert seconds(compose["services"]["api"]["stop_grace_period"]) > 10
    assert all("stop_grace_period" in service for service in compose["services"].values())


def test_all_replicas_fit_into_the_database(compose: dict[str, Any]) -> None:
    services = compose["services"]
    replicas = {name: int(services[name]["deploy"]["replicas"]) for name in ("api", "queue")}
    assert all(
        int(services[name]["environment"]["HOLDFAST_REPLICAS"]) == sum(replicas.values()) for name in ENGINE
    )
    jobs = {"api": 0, "queue": int(services["queue"]["environment"]["N_JOBS_PER_WORKER"])}
    taken = sum(
        count * plan(jobs=jobs[name], isolated=False, bound=None, share=None).total
        for name, count in replicas.items()
    )
    given = int(re.search(r"max_connections=(\d+)", services["postgres"]["command"][2])[1])  # type: ignore[index]
    reserved, of_the_receiver = 3, 20
    assert taken + reserved + MARGIN + of_the_receiver <= given


def test_webhooks_are_those_of_the_manifest_without_loopback(compose: dict[str, Any]) -> None:
    declared = json.loads((PROJECT / "langgraph.json").read_text())["webhooks"]
    assert set(declared["url"].pop("allowed_domains")) == {"127.0.0.1", "localhost", "callbacks"}
    for name in ("api", "queue", "official"):
        composed = json.loads(compose["services"][name]["environment"]["LANGGRAPH_WEBHOOKS"])
        assert composed["url"].pop("allowed_domains") == ["callbacks"]
        assert composed == declared


@pytest.mark.parametrize("service", ENGINE)
def test_a_server_is_told_all_that_it_reads(told: dict[str, dict[str, str]], service: str) -> None:
    wanted = (aliases(EngineSettings) | AGENTS | SERVER) - GIVEN
    assert {name: told[service].get(name) for name in wanted} == {name: f"is-{name}" for name in wanted}
    assert (
        told[service]["DATABASE_URI"] == "postgresql://holdfast:is-POSTGRES_PASSWORD@postgres:5432/holdfast"
    )
    assert told[service]["REDIS_URI"] == "redis://:is-VALKEY_PASSWORD@valkey:6379/0"


def test_the_receiver_is_told_all_that_it_reads(told: dict[str, dict[str, str]]) -> None:
    wanted = aliases(CallbackSettings) - GIVEN
    assert {name: told["callbacks"].get(name) for name in wanted} == {name: f"is-{name}" for name in wanted}


def test_every_documented_variable_reaches_somebody(told: dict[str, dict[str, str]]) -> None:
    reached = {value.removeprefix("is-") for each in told.values() for value in each.values()}
    of_the_client = aliases(ClientSettings) - reached
    assert documented() - reached == GIVEN | OF_THE_FILE | OF_THIS_MACHINE | of_the_client


def test_what_is_mounted_is_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = str(volume if isinstance(volume, str) else volume["source"]).split(":")[0]
            assert not source.startswith((".", "/")) or (PROJECT / source).exists(), source


def test_the_example_of_the_http_section_is_all_of_it() -> None:
    found = re.search(r"^# LANGGRAPH_HTTP='(.*)'$", (PROJECT / ".env.example").read_text(), re.M)
    assert found
    example = json.loads(found[1])
    declared = json.loads((PROJECT / "langgraph.json").read_text())["http"]
    # Of another frontend, and otherwise the same: what is left out would be off.
    example["cors"].pop("allow_origins"), declared["cors"].pop("allow_origins")
    assert example == declared
