"""langgraph.json as `holdfast serve` reads it: into variables of the stock server, or refused by name."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from langgraph_runtime_holdfast.deployment import Deployment, load_deployment
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.tracing import destinations

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("graph", "auth", "app"):
        (tmp_path / f"{name}.py").write_text("")
    return tmp_path


def load(project: Path, environment: dict[str, str] | None = None, **manifest: Any) -> Deployment:
    path = project / "langgraph.json"
    path.write_text(json.dumps({"graphs": {"one": "./graph.py:graph"}, **manifest}))
    return load_deployment(path, environment or {})


def test_every_section_becomes_its_variable(project: Path) -> None:
    manifest: dict[str, Any] = {
        "auth": {"path": "./auth.py:auth", "disable_studio_auth": True},
        "http": {
            "app": "./app.py:app",
            "cors": {"allow_origins": ["https://a.example"]},
            "disable_mcp": True,
        },
        "store": {"index": {"dims": 3, "embed": "./app.py:embed"}, "ttl": {"default_ttl": 0.5}},
        "checkpointer": {
            "ttl": {"strategy": "delete", "default_ttl": 5},
            "serde": {"pickle_fallback": False},
        },
        "webhooks": {"url": {"allowed_domains": ["a.example"]}, "headers": {"x": "${{ env.LG_WEBHOOK_T }}"}},
        "encryption": {"path": "./app.py:encryption"},
    }
    environment = load(project, {"LG_WEBHOOK_T": "secret"}, **manifest).environment
    for section, value in manifest.items():
        assert json.loads(environment[f"LANGGRAPH_{section.upper()}"]) == value
    assert json.loads(environment["LANGSERVE_GRAPHS"]) == {"one": "./graph.py:graph"}
    assert environment["LANGGRAPH_RUNTIME_EDITION"] == "holdfast"


def test_nothing_leaves_the_machine_unless_asked_for(project: Path) -> None:
    keys = {"LANGSMITH_API_KEY": "k", "LANGGRAPH_CLOUD_LICENSE_KEY": "lcl_k"}
    environment = load(project, keys).environment
    assert environment["LANGSMITH_TRACING"] == "false"
    # What the server's report of its own use depends on.
    assert environment["LANGSMITH_CONTROL_PLANE_API_KEY"] == environment["LANGGRAPH_CLOUD_LICENSE_KEY"] == ""
    assert "LANGSMITH_TRACING" not in load(project, {"LANGCHAIN_TRACING_V2": "true"}).environment


def test_the_process_wins_over_dotenv(project: Path) -> None:
    (project / ".env").write_text("MODEL=file\nN_JOBS_PER_WORKER=3\n")
    environment = load(project, {"MODEL": "process"}, env=".env").environment
    assert (environment["MODEL"], environment["N_JOBS_PER_WORKER"]) == ("process", "3")
    assert load(project, env={"MODEL": "inline"}).environment["MODEL"] == "inline"


def test_a_variable_wins_over_its_section(project: Path) -> None:
    given = {
        "LANGGRAPH_HTTP": '{"disable_mcp": false}',
        "LANGGRAPH_AUTH": "{}",
        "LANGGRAPH_STORE": "",
        "LANGGRAPH_POSTGRES_POOL_MAX_SIZE": "",
        "LANGSERVE_GRAPHS": '{"two": "./app.py:graph"}',
    }
    ttl = {"ttl": {"default_ttl": 5}}
    deployment = load(
        project, given, http={"disable_mcp": True}, auth={"path": "./auth.py:auth"}, store=ttl, env={"A": "b"}
    )
    assert json.loads(deployment.environment["LANGGRAPH_HTTP"]) == {"disable_mcp": False}
    assert json.loads(deployment.environment["LANGSERVE_GRAPHS"]) == {"two": "./app.py:graph"}
    # An empty variable, as compose files make them, says nothing; an empty object says there is none.
    assert json.loads(deployment.environment["LANGGRAPH_STORE"]) == ttl
    assert "LANGGRAPH_POSTGRES_POOL_MAX_SIZE" not in deployment.environment
    assert not deployment.has_auth
    assert set(deployment.overridden) == {"LANGGRAPH_HTTP", "LANGGRAPH_AUTH", "LANGSERVE_GRAPHS"}
    assert load(project, http={"disable_mcp": True}).overridden == ()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("LANGGRAPH_HTTP", '{"app": s3cret}', r"LANGGRAPH_HTTP .* is not valid JSON: character 9"),
        ("LANGGRAPH_WEBHOOKS", '["s3cret"]', "LANGGRAPH_WEBHOOKS .* must be a JSON object"),
        ("LANGSERVE_GRAPHS", "{}", "LANGSERVE_GRAPHS .* must be a JSON object"),
        ("LANGSERVE_GRAPHS", '{"one": "./no.py:graph"}', r"LANGSERVE_GRAPHS: graphs\.one names \./no\.py"),
        ("LANGGRAPH_AUTH", '{"path": "./a.ts:auth"}', r"LANGGRAPH_AUTH: auth\.path is JavaScript"),
        (
            "LANGGRAPH_STORE",
            '{"ttl": {"default_ttl": "s3cret"}}',
            r"LANGGRAPH_STORE: store\.ttl\.default_ttl",
        ),
        (
            "LANGGRAPH_CHECKPOINTER",
            '{"backend": "mongo"}',
            "LANGGRAPH_CHECKPOINTER: checkpointer.backend cannot",
        ),
    ],
)
def test_a_wrong_variable_is_named_without_its_value(
    project: Path, variable: str, value: str, expected: str
) -> None:
    with pytest.raises(EngineError, match=expected) as caught:
        load(project, {variable: value})
    assert "s3cret" not in str(caught.value)


def test_local_dependencies_are_importable(project: Path) -> None:
    (project / "src").mkdir()
    deployment = load(project, dependencies=[".", "./src", "httpx>=0.1"])
    assert deployment.import_folders == [str(project), str(project / "src")]


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"strore": {}}, "strore is not a key of langgraph.json"),
        ({"node_version": "20"}, "node_version cannot be honoured: JavaScript"),
        ({"ui": {"a": "./a.tsx"}}, "ui cannot be honoured"),
        ({"priority": {"path": "./p.py:p"}}, "priority cannot be honoured"),
        ({"checkpointer": {"path": "./c.py:c"}}, r"checkpointer\.path cannot be honoured"),
        ({"checkpointer": {"backend": "mongo"}}, r"checkpointer\.backend cannot be honoured"),
        (
            {"checkpointer": {"serde": {"allowed_msgpack_modules": []}}},
            r"serde\.allowed_msgpack_modules: is not",
        ),
        ({"http": {"disable_webhook": True}}, r"http\.disable_webhook: is not an option"),
        ({"http": {"cors": {"max_ages": 1}}}, r"http\.cors\.max_ages: is not an option"),
        ({"http": ["a"]}, "http: input should be"),
        (
            {"store": {"ttl": {"default_ttl": "soon"}}},
            r"store\.ttl\.default_ttl: input should be a valid number",
        ),
        ({"webhooks": {"allowed_fields": ["bogus"]}}, "invalid field 'bogus'"),
        (
            {"webhooks": {"headers": {"a": "${{ env.LG_WEBHOOK_X }}"}}},
            "missing .* variable 'LG_WEBHOOK_X'. Set it",
        ),
        ({"dependencies": ["./none"]}, r"the folder \./none, which does not exist"),
        ({"dependencies": ["no-such-package"]}, "no-such-package, which is not installed"),
        ({"dependencies": ["httpx<0.1"]}, r"asks for httpx<0\.1 and .* is installed"),
        ({"graphs": {"one": {"path": "./graph.py:graph", "pth": 1}}}, r"graphs\.one\.pth is not a key"),
        ({"auth": {"path": "./none.py:auth"}}, r"auth\.path names \./none\.py, which does not exist"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    project: Path, manifest: dict[str, Any], expected: str
) -> None:
    with pytest.raises(EngineError, match=expected) as caught:
        load(project, **manifest)
    assert "\n" not in str(caught.value)


def test_every_fault_has_its_line(project: Path) -> None:
    with pytest.raises(EngineError) as caught:
        load(project, {"LANGGRAPH_AES_KEY": "0123456789abcdef"}, ui={"a": "b"}, http={"a": 1})
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "LANGGRAPH_AES_KEY" in lines[2]
    assert "0123456789abcdef" not in str(caught.value)


def test_a_javascript_graph_is_refused(project: Path) -> None:
    (project / "graph.ts").write_text("")
    with pytest.raises(EngineError, match=r"graphs\.one is JavaScript"):
        load(project, graphs={"one": "./graph.ts:graph"})


def test_the_shortcut_of_langgraph_dev_is_refused(project: Path) -> None:
    with pytest.raises(EngineError, match="LANGSMITH_LANGGRAPH_API_VARIANT=local_dev"):
        load(project, {"LANGSMITH_LANGGRAPH_API_VARIANT": "local_dev"})


def test_our_own_manifest_is_served() -> None:
    deployment = load_deployment(PROJECT / "langgraph.json", {"LG_WEBHOOK_TOKEN": "a-token-of-16-chars"})
    assert len(json.loads(deployment.environment["LANGSERVE_GRAPHS"])) == 6
    assert deployment.has_auth


COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, []),
        (COLLECTOR, ["requests and runs to collector"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:b@c/v1/traces"}, ["requests and runs to c"]),
        # As docker-compose.yml gives what is unset.
        (COLLECTOR | {"LANGSMITH_TRACING": ""}, ["requests and runs to collector"]),
        (COLLECTOR | {"LANGSMITH_TRACING": "false"}, ["requests to collector"]),
        (COLLECTOR | {"OTEL_TRACES_EXPORTER": "none"}, []),
        (COLLECTOR | {"OTEL_SDK_DISABLED": "true"}, []),
        (COLLECTOR | {"LANGSMITH_TRACING": "true"}, ["requests to collector", "runs to LangSmith"]),
        (
            COLLECTOR | {"LANGSMITH_TRACING": "true", "LANGSMITH_TRACING_MODE": "hybrid"},
            ["requests and runs to collector", "runs to LangSmith"],
        ),
    ],
)
def test_a_place_for_traces_is_all_it_takes(project: Path, given: dict[str, str], sent: list[str]) -> None:
    environment = load(project, given).environment
    assert list(destinations(environment)) == sent
    if sent == ["requests and runs to collector"]:
        assert (environment["LANGSMITH_TRACING"], environment["LANGSMITH_TRACING_MODE"]) == ("true", "otel")


def test_what_traces_need_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation", None)
    assert load(project, {}).environment["LANGSMITH_TRACING"] == "false"
    with pytest.raises(EngineError, match=r"langgraph-runtime-holdfast\[otel\]"):
        load(project, COLLECTOR)


def test_a_protocol_that_traces_are_not_sent_by_is_refused(project: Path) -> None:
    with pytest.raises(EngineError, match="OTEL_EXPORTER_OTLP_PROTOCOL=grpc in the environment"):
        load(project, COLLECTOR | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Bearer s3cret"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-api-key=s3cret,s3cret"),
    ],
)
def test_an_address_of_traces_that_cannot_work_is_refused_without_its_secret(
    project: Path, name: str, value: str
) -> None:
    with pytest.raises(EngineError, match=f"{name} in the environment") as caught:
        load(project, COLLECTOR | {name: value})
    assert "s3cret" not in str(caught.value)
