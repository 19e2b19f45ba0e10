"""What the local stack reads before it starts: langgraph.json, .env, ports and secrets."""

import json
import socket
import stat
from pathlib import Path

import pytest

from langgraph_runtime_holdfast.local.errors import LocalStackError
from langgraph_runtime_holdfast.local.ports import HOST, choose_ports
from langgraph_runtime_holdfast.local.settings import LocalSettings
from langgraph_runtime_holdfast.outbox.signing import signing_keys


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "graph.py").write_text("graph = None\n")
    path = tmp_path / "langgraph.json"
    path.write_text(json.dumps({"graphs": {"one": "./graph.py:graph"}, "env": ".env"}))
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"graphs": {\n  "one": }}', "line 2, column 10"),
        ("[]", "must hold a JSON object, not list"),
        ("{}", "has no graphs"),
        ('{"graphs": {"one": "./none.py:graph"}}', r"graphs.one names ./none.py, which does not exist"),
        ('{"graphs": {"one": {"path": "./graph.py"}}}', r"graphs.one must be .*not './graph.py'"),
        ('{"graphs": {"one": 1}}', r"graphs.one must be .*not 1"),
        ('{"graphs": {"one": "./graph.py:graph"}, "auth": {"path": "./auth.py:auth"}}', "auth.path names"),
    ],
)
def test_a_broken_manifest_is_named_with_its_place(manifest: Path, text: str, expected: str) -> None:
    manifest.write_text(text)
    with pytest.raises(LocalStackError, match=expected) as caught:
        LocalSettings.load(manifest, environment={})
    assert str(manifest) in str(caught.value)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match=r"langgraph\.json does not exist"):
        LocalSettings.load(tmp_path / "langgraph.json", environment={})


def test_dotenv_wins_except_for_what_only_the_stack_reads(manifest: Path) -> None:
    manifest.with_name(".env").write_text("MODEL=from-file\nHOLDFAST_PORT=3000\nCALLBACKS_PORT=3001\n")
    settings = LocalSettings.load(manifest, environment={"MODEL": "from-shell", "HOLDFAST_PORT": "4000"})
    assert settings.environment["MODEL"] == "from-file"
    assert settings.ports["HOLDFAST_PORT"] == 4000
    assert settings.ports["CALLBACKS_PORT"] == 3001


@pytest.mark.parametrize("port", ["abc", "-1", "65536", "٣"])
def test_a_port_that_is_none_is_refused(manifest: Path, port: str) -> None:
    with pytest.raises(LocalStackError, match="HOLDFAST_PORT must be a port"):
        LocalSettings.load(manifest, environment={"HOLDFAST_PORT": port})


def test_a_taken_port_is_passed_over_unless_somebody_chose_it(manifest: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert port < choose_ports({"HOLDFAST_PORT": port}, ["HOLDFAST_PORT"])["HOLDFAST_PORT"]
        with pytest.raises(LocalStackError, match=f"port {port} is taken .* set HOLDFAST_PORT"):
            choose_ports({"HOLDFAST_PORT": port})
    chosen = LocalSettings.load(manifest, environment={"HOLDFAST_PORT": "2024"}).default_ports
    assert chosen == ["CALLBACKS_PORT", "HOLDFAST_POSTGRES_PORT"]


def test_secrets_are_made_once_and_private(manifest: Path) -> None:
    settings = LocalSettings.load(manifest, environment={})
    settings.home.mkdir()
    made = settings.read_or_make_secrets()
    assert len(set(made.values())) == 3
    assert len(signing_keys(made["LG_WEBHOOK_SIGNING_SECRET"])[0]) == 32
    assert min(map(len, made.values())) >= 32
    assert stat.S_IMODE((settings.home / "secrets.env").stat().st_mode) == 0o600
    assert settings.read_or_make_secrets() == made

    mine = {"LG_WEBHOOK_TOKEN": "a-token-of-my-own"}
    assert LocalSettings.load(manifest, environment=mine).read_or_make_secrets() == made | mine


def test_a_wrong_signing_secret_is_refused_and_not_shown(manifest: Path) -> None:
    with pytest.raises(LocalStackError, match=r"_SIGNING_SECRET in \.env .* must be whsec_") as caught:
        LocalSettings.load(manifest, environment={"LG_WEBHOOK_SIGNING_SECRET": "whsec_c2hvcnQ="})
    assert "c2hvcnQ" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "changethis"])
def test_an_empty_or_short_secret_is_refused(manifest: Path, value: str) -> None:
    manifest.with_name(".env").write_text(f"HOLDFAST_API_KEY={value}\n")
    with pytest.raises(LocalStackError, match=r"HOLDFAST_API_KEY in .env .* fewer than 16"):
        LocalSettings.load(manifest, environment={"HOLDFAST_API_KEY": "long enough, but .env wins"})
