"""One real server for all contract tests, with the small graphs of `graphs/`."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from sdk_client import Client, RetryPolicy

GRAPHS = Path(__file__).parent / "graphs"
START_SECONDS = 90.0
# Short enough for the tests of crashed claimants, long enough for a slow machine's single request.
POLICY = RetryPolicy(attempts=6, deadline_seconds=10.0, base_delay_seconds=0.05, max_delay_seconds=0.5)


@pytest.fixture(scope="session", params=["dev"])
def server_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server; the parameter is the engine it runs on."""
    home = tmp_path_factory.mktemp(f"server-{request.param}")
    shutil.copytree(GRAPHS, home, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    with running_dev_server(home) as url:
        yield url


@contextlib.contextmanager
def running_dev_server(home: Path) -> Iterator[str]:
    """Run `langgraph dev` in a folder of its own until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = home / "server.log"
    command = [
        str(Path(sys.executable).with_name("langgraph")),
        *("dev", "--no-browser", "--no-reload", "--n-jobs-per-worker", "10"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("LANGSMITH_", "LANGCHAIN_"))
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=home,
            env={**environment, "LANGSMITH_TRACING": "false"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, process, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/ok", timeout=2).status_code == 200:
                return
        time.sleep(0.1)
    pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture
async def client(server_url: str) -> AsyncIterator[Client]:
    async with Client(server_url, retry=POLICY) as connected:
        yield connected
