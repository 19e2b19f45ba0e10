"""Which port the health check of an image asks, by the command of its container."""

from __future__ import annotations

import pytest

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.probe import fault_at, port_of
from langgraph_runtime_holdfast.serve import DEFAULT_PORT


@pytest.mark.parametrize(
    ("command", "port"),
    [
        ("tini -- /opt/holdfast/bin/python /opt/holdfast/bin/holdfast serve --role api --port 8000", 8000),
        ("/sbin/docker-init -- tini -- holdfast serve --port=8001 --role queue", 8001),
        ("holdfast serve", DEFAULT_PORT),
        ("tini -- python -m sdk_client.callbacks --host 0.0.0.0 --port 2026", 2026),
        ("python -m sdk_client.callbacks", 2025),
        ("tini -- holdfast migrate", None),
    ],
)
def test_the_port_is_the_commands_own(command: str, port: int | None) -> None:
    assert port_of(command.split()) == port


def test_nobody_there_is_a_fault() -> None:
    (port,) = choose_ports({"PORT": 0}).values()
    assert f"port {port}" in (fault_at(port) or "")
