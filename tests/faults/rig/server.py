"""A real `holdfast serve` at its default settings, which can be killed, told to end, and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import psutil

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart, answers_ok
from tests.faults.rig.setup import Role

GRAPHS = Path(__file__).parent.parent / "graphs"
_POLL_SECONDS = 0.02
_START_SECONDS = 90.0
# The default grace period is 180 s; a server that is told to end and does not within this is counted as hung.
_END_SECONDS = 60.0
# Of the machine's own environment; a server of the suite has none of it.
_FOREIGN = (
    *("LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_", "HOLDFAST_", "BG_JOB_", "REDIS_", "N_JOBS_"),
    *("DATABASE_URI", "POSTGRES_URI"),
)


def server_environment(given: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server: the engine's defaults, and what it is given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return kept | {"LANGSMITH_TRACING": "false", "LANGGRAPH_NO_VERSION_CHECK": "true"} | dict(given)


class Server:
    """One server, on the same port however often it is started."""

    def __init__(
        self, folder: Path, given: Mapping[str, str], role: Role = "all", config: str = "langgraph.json"
    ) -> None:
        """Choose the port; nothing is started yet.

        Args:
            folder: For its logs, one for each start.
            given: Environment variables beside the defaults.
            role: Whether it answers the API, executes runs, or both.
            config: Which of the suite's manifests it serves, or the path of another.
        """
        self.role = role
        self.program: Sequence[str] = (sys.executable, "-m", "langgraph_runtime_holdfast", "serve")
        """What is started, from the next start on; another version has another interpreter."""
        self._config = GRAPHS / config
        self._folder = folder
        self.given = dict(given)
        """From the next start on."""
        self.port = choose_ports({"PORT": 0})["PORT"]
        self.url = f"http://127.0.0.1:{self.port}"
        self.starts = 0
        self._running: RunningPart | None = None
        self._process: psutil.Process | None = None

    @property
    def process(self) -> psutil.Process:
        """The server's own process; valid once started."""
        assert self._process is not None, "start() comes first"
        return self._process

    @property
    def has_ended(self) -> bool:
        """Whether it was started and runs no more."""
        return self._running is not None and self._running.exit_code is not None

    async def start(self) -> None:
        """Start the process; returns when it exists, long before it answers."""
        self._folder.mkdir(exist_ok=True)
        self.starts += 1
        part = Part(
            name="holdfast serve",
            command=[
                *self.program,
                "--config",
                str(self._config),
                "--port",
                str(self.port),
                *self._roles(),
            ],
            environment=server_environment(self.given),
            folder=self._folder,
            address=self.url,
            is_healthy=partial(answers_ok, self.port),
            log=self._folder / f"server-{self.starts}.log",
        )
        self._running = RunningPart(part)
        leash = psutil.Process(self._running.leash_id)
        while not (children := leash.children()):
            self._running.check_alive()
            await asyncio.sleep(_POLL_SECONDS)
        self._process = children[0]

    async def wait_until_ready(self) -> None:
        """Wait until it answers."""
        assert self._running is not None, "start() comes first"
        await asyncio.to_thread(self._running.wait_until_healthy, _START_SECONDS)

    def said(self, text: str) -> list[str]:
        """The lines of its logs that have this text."""
        logs = sorted(self._folder.glob("server-*.log"))
        return [line for log in logs for line in log.read_text(errors="replace").splitlines() if text in line]

    async def kill(self) -> None:
        """End it as the kernel does when memory is short (SIGKILL)."""
        self.process.kill()
        await self._until_gone("SIGKILL")

    async def pause(self, seconds: float) -> None:
        """Stop it in its tracks for so long, as a hypervisor does (SIGSTOP, then SIGCONT)."""
        self.process.suspend()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.process.resume()

    async def tell_to_end(self) -> None:
        """Send SIGTERM; returns at once."""
        self.process.send_signal(signal.SIGTERM)

    async def terminate(self) -> float:
        """Send SIGTERM and wait until it has ended; returns how many seconds that took."""
        began = time.monotonic()
        await self.tell_to_end()
        await self._until_gone("SIGTERM")
        return time.monotonic() - began

    async def stop(self) -> None:
        """End it for sure, at the end of a scenario."""
        if self._process is not None and self._process.is_running():
            self._process.kill()
        if self._running is not None:
            await asyncio.to_thread(self._running.stop)

    def _roles(self) -> list[str]:
        return [] if self.role == "all" else ["--role", self.role]

    async def _until_gone(self, what: str) -> None:
        assert self._running is not None
        deadline = time.monotonic() + _END_SECONDS
        while self._running.exit_code is None:
            assert time.monotonic() < deadline, f"the server did not end within {_END_SECONDS} s of {what}"
            await asyncio.sleep(_POLL_SECONDS)
