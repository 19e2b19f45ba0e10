"""REDIS_URI in the forms that people use: each is read, or refused by a line that shows no secret."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.settings import EngineSettings, settings
from langgraph_runtime_holdfast.valkey import address
from langgraph_runtime_holdfast.valkey_address import read_address

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("uri", "kind", "nodes", "others"),
    [
        ("redis://a", "server", [("a", 6379)], {}),
        (f"redis://:{SECRET}@a:1/2", "server", [("a", 1)], {"password": SECRET, "db": 2}),
        ("redis://me:p%40ss@[::1]:1", "server", [("::1", 1)], {"username": "me", "password": "p@ss"}),
        ("redis://a:1/0?client_name=x", "server", [("a", 1)], {"client_name": "x"}),
        ("redis://a:1,b:2,c", "cluster", [("a", 1), ("b", 2), ("c", 6379)], {}),
        (f"rediss+cluster://me:{SECRET}@a:1/0", "cluster", [("a", 1)], {"username": "me"}),
        (
            f"redis+sentinel://me:{SECRET}@a,b:1/main/3?sentinel_password=other",
            "sentinel",
            [("a", 26379), ("b", 1)],
            {"password": SECRET, "db": 3},
        ),
        ("unix:///run/valkey.sock?db=1", "server", [], {"path": "/run/valkey.sock", "db": 1}),
    ],
)
def test_what_people_write_is_read(
    uri: str, kind: str, nodes: list[tuple[str, int]], others: dict[str, Any]
) -> None:
    found = read_address(uri)
    assert (found.kind, list(found.nodes)) == (kind, nodes)
    assert others.items() <= found.options.items()
    if kind == "sentinel":
        assert found.master == "main"
        assert found.sentinel_options["password"] == "other"
        assert "db" not in found.sentinel_options


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("", "REDIS_URI is not set"),
        (f"valkey://:{SECRET}@a", "begins with no scheme of Valkey"),
        (f"redis://:{SECRET}@", "a host is missing"),
        (f"redis://:{SECRET}@a,,b", "a host is missing"),
        (f"redis://me:{SECRET}/more@a", "no number|not %-encoded"),
        (f"redis://:{SECRET}@a/main", "the database after the host is no number"),
        (f"redis://:{SECRET}@a,b/1", "a cluster has only number 0"),
        (f"redis+cluster://:{SECRET}@a/1", "a cluster has only number 0"),
        (f"redis+sentinel://:{SECRET}@a", "name by which the Sentinels know the servers is missing"),
        (f"redis://:{SECRET}@a?sentinel_password=x", "for redis\\+sentinel://"),
        (f"redis://:{SECRET}@a?decode_responses=true", "decode_responses is not an option; these are"),
        (f"redis://:{SECRET}@a?ssl_ca_certs=/x", "ssl_ca_certs is for TLS"),
        (f"rediss://:{SECRET}@a?ssl_ca_certs=/nowhere", "cannot be used \\(ssl_ca_certs\\).*No such file"),
        (f"rediss://:{SECRET}@a?ssl_cert_reqs=CERT_NONE", "CERT_NONE"),
        ("unix://", "without a path"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(uri: str, told: str) -> None:
    with pytest.raises(EngineError, match=told) as refused:
        read_address(uri)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_variables_of_the_official_image_are_taken_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_address("redis://a", is_cluster=True).kind == "cluster"
    for uri, others, told in (
        ("redis+sentinel://a/main", {"is_cluster": True}, "REDIS_CLUSTER is set, and .* Sentinels"),
        ("unix:///x", {"is_cluster": True}, "REDIS_CLUSTER is set, and .* socket"),
        ("redis://a", {"ca_cert": base64.b64encode(b"x").decode()}, r"Write rediss://"),
        ("rediss://a", {"ca_cert": "?"}, "REDIS_TLS_CA_CERT is no PEM in base64"),
    ):
        with pytest.raises(EngineError, match=told):
            read_address(uri, **others)
    for name in ("MAX_CONNECTIONS", "CONNECT_TIMEOUT", "HEALTH_CHECK_INTERVAL"):
        monkeypatch.setenv(f"REDIS_{name}", "7")
    for uri in ("redis://a?max_connections=5", "unix:///x?max_connections=5"):
        monkeypatch.setenv("REDIS_URI", uri)
        settings.cache_clear()
        options = address().options
        assert (options["max_connections"], options["socket_connect_timeout"]) == (5, 7.0)
        assert options["health_check_interval"] == 7.0
    monkeypatch.setenv("REDIS_CONNECT_TIMEOUT", "soon")
    settings.cache_clear()
    with pytest.raises(EngineError, match="REDIS_CONNECT_TIMEOUT: input should be a valid number"):
        settings()
    monkeypatch.undo()
    monkeypatch.setenv("REDIS_KEY_PREFIX", "{mine}:")
    settings.cache_clear()
    with pytest.raises(EngineError, match="REDIS_KEY_PREFIX: braces choose the slot"):
        settings()
    monkeypatch.undo()
    settings.cache_clear()
    assert EngineSettings().redis_key_prefix
