"""Where `holdfast serve` keeps things and listens: told before anything is started."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from langgraph_runtime_holdfast import embedded, serve
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.serve import ServeOptions
from langgraph_runtime_holdfast.settings import EngineSettings, require_redis_uri

HOST = "127.0.0.1"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE_URI", "POSTGRES_URI", "REDIS_URI"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "graph.py").write_text("graph = None\n")
    path = tmp_path / "langgraph.json"
    path.write_text(json.dumps({"graphs": {"one": "./graph.py:graph"}}))
    return path


@pytest.mark.parametrize(
    ("host", "variables", "expected"),
    [
        ("0.0.0.0", {}, r"DATABASE_URI is not set\. Set .* --embedded"),  # noqa: S104
        ("::", {}, r"DATABASE_URI is not set\. Set .* --embedded"),
        (HOST, {"DATABASE_URL": "postgresql://u:s3cret@h/d"}, "not set; DATABASE_URL is set instead"),
        (HOST, {"PGHOST": "h", "REDIS_URL": "redis://h"}, "PGHOST is set instead; REDIS_URL is set instead"),
        (HOST, {"REDIS_URI": "redis://h"}, "DATABASE_URI is not set, only REDIS_URI is"),
    ],
)
def test_an_embedded_database_is_not_started_where_nobody_expects_it(
    config: Path, monkeypatch: pytest.MonkeyPatch, host: str, variables: dict[str, str], expected: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EngineError, match=expected) as told:
        embedded.serve(config, ServeOptions(host))
    assert "s3cret" not in str(told.value)
    assert not (config.parent / ".holdfast").exists()

    started: list[ServeOptions] = []

    def start(config: Path, environment: dict[str, str], options: ServeOptions) -> int:
        started.append(options)
        return 0

    monkeypatch.setattr(embedded, "_serve_with_services", start)
    assert embedded.serve(config, ServeOptions(host, embedded=True)) == 0
    assert started
    assert "--embedded" not in started[0].as_arguments()


def test_what_is_set_instead_of_the_addresses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VALKEY_URL", "redis://:s3cret@h")
    with pytest.raises(EngineError, match="REDIS_URI is not set; VALKEY_URL is set instead"):
        require_redis_uri("")
    monkeypatch.setenv("POSTGRES_URL", "postgresql://h/d")
    with pytest.raises(EngineError, match="POSTGRES_URL is set instead"):
        _ = EngineSettings.model_validate({"DATABASE_URI": "", "POSTGRES_URI": ""}).dsn


def test_a_taken_default_port_is_passed_over_and_a_chosen_one_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(serve, "DEFAULT_PORT", port)
        with serve._listener(ServeOptions(HOST)) as listener:
            chosen = listener.getsockname()[1]
        assert port < chosen < port + serve.NEXT_PORTS
        assert capsys.readouterr().out == f"port {port} is taken: listening on {HOST}:{chosen}\n"
        with pytest.raises(EngineError, match=f"cannot listen on {HOST}:{port}"):
            serve._listener(ServeOptions(HOST, port))
