"""The client where OpenTelemetry is not installed: it does the same, without a span."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, sys
sys.modules["opentelemetry"] = None
from sdk_client import Client
from tests.unit.faulty_server import faulty_server

async def main():
    async with faulty_server() as server, Client(server.url) as client:
        print((await client.run("echo", {"text": "x"})).values)

asyncio.run(main())
"""


def test_the_client_works_without_opentelemetry() -> None:
    project = Path(__file__).parents[2]
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=150, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{'done': True}\n", "")


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_the_command_says_that_it_cannot_send_traces(place: str, tmp_path: Path) -> None:
    imports = (
        "import sys; sys.modules['opentelemetry'] = None; from sdk_client.cli.tracing import send_traces"
    )
    name, value = "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"
    (tmp_path / ".env").write_text(f"{name}={value}\n" if place == ".env" else "")
    environment = {name: value} if place == "environment" else {}
    command = [sys.executable, "-c", f"{imports}; print(send_traces(print))"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=150, check=True
    )
    assert "the extra [otel]" in done.stdout


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "must be http/protobuf"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "s3cret:4318", "must begin with http"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: s3cret", "of the form name=value"),
    ],
)
def test_the_command_says_what_is_wrong_with_its_address(name: str, value: str, told: str) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", name: value}
    program = "from sdk_client.cli.tracing import send_traces; print(send_traces(print))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=True)
    assert name in done.stdout
    assert told in done.stdout
    assert "s3cret" not in done.stdout + done.stderr


def test_a_propagator_that_is_not_installed_is_no_reason_to_fail() -> None:
    command = [sys.executable, "-c", "from sdk_client.tracing import AVAILABLE; print(AVAILABLE)"]
    environment = {"OTEL_PROPAGATORS": "nonesuch"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n")
