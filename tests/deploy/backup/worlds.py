"""Deployments that are lost and come back: real servers, a real Postgres, callers that keep at it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from sdk_client import Client, RunHandle
from tests.faults.rig.callbacks import Receiver
from tests.faults.rig.server import Server, server_environment
from tests.faults.rig.valkey import Valkey

_POLL_SECONDS = 0.1
_CALLERS = 4


async def until(what: str, is_so: Callable[[], Awaitable[bool]], seconds: float = 90.0) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not await is_so():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(_POLL_SECONDS)


async def holdfast(given: dict[str, str], *arguments: str, code: int = 0) -> str:
    """Run a command of the engine to its end; returns what it printed."""
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "langgraph_runtime_holdfast", *arguments],
        env=server_environment(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


@dataclass
class World:
    """One deployment: a server on a database, and a receiver of its own."""

    server: Server
    receiver: Receiver
    acknowledged: list[tuple[float, RunHandle]] = field(default_factory=list)
    """Each run that a caller was told of, and when by the machine's clock."""

    @property
    def given(self) -> dict[str, str]:
        """Its environment."""
        return self.server.given

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call its API."""
        async with httpx.AsyncClient(base_url=self.server.url, timeout=30) as http:
            answer = await http.request(method, path, json=body)
            answer.raise_for_status()
            return answer.json() if answer.content else None

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Callers that create runs one after the other, while the block lasts."""
        async with Client(self.server.url) as client:
            callers = [asyncio.create_task(self._create_on(client)) for _ in range(_CALLERS)]
            try:
                yield
            finally:
                for caller in callers:
                    caller.cancel()
                await asyncio.gather(*callers, return_exceptions=True)

    async def _create_on(self, client: Client) -> None:
        while True:
            handle = await client.submit("steps", {"node_seconds": 0.5}, webhook=self.receiver.url)
            self.acknowledged.append((time.time(), handle))
            await asyncio.sleep(0.1)

    async def statuses(self, handles: list[RunHandle]) -> list[str]:
        """What has become of runs; "gone" if the server knows them no more."""
        return list(await asyncio.gather(*(self._status(handle) for handle in handles)))

    async def _status(self, handle: RunHandle) -> str:
        try:
            found = await self.call("GET", f"/threads/{handle.thread_id}/runs/{handle.run_id}")
        except httpx.HTTPStatusError as error:
            if error.response.status_code == 404:
                return "gone"
            raise
        return str(found["status"])

    async def until_all_are_done(self, handles: list[RunHandle]) -> None:
        """Wait until each of these runs has ended well."""

        async def is_so() -> bool:
            return set(await self.statuses(handles)) <= {"success"}

        await until("all runs are done", is_so)

    async def until_all_are_told(self, handles: list[RunHandle]) -> None:
        """Wait until the callback of each has come."""
        wanted = {handle.run_id for handle in handles}

        async def is_so() -> bool:
            return wanted <= set(self.receiver.arrived())

        await until("all callbacks have come", is_so)


class Worlds:
    """Makes deployments that share nothing but a Valkey, each under a prefix of its own."""

    def __init__(self, folder: Path) -> None:
        """Prepare; `open()` starts."""
        self.folder = folder
        self._valkey = Valkey(folder / "valkey")
        self._stack = AsyncExitStack()
        self._made = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Start the Valkey; all is stopped at the end."""
        async with self._stack:
            await self._valkey.start()
            self._stack.push_async_callback(self._valkey.stop)
            yield

    def make(self, database_uri: str) -> World:
        """Describe a deployment on a database; its server is started by the caller."""
        self._made += 1
        given = {
            "DATABASE_URI": database_uri,
            "REDIS_URI": self._valkey.uri,
            "REDIS_KEY_PREFIX": f"world{self._made}:",
            "CRON_SCHEDULER_SLEEP_TIME": "1",
            "FAULTS_JOURNAL": str(self.folder / "journal"),
        }
        world = World(Server(self.folder / f"world{self._made}", given), Receiver())
        self._stack.push_async_callback(world.server.stop)
        self._stack.callback(world.receiver.close)
        return world


def recovery_point(manifest: str) -> float:
    """From what `holdfast backup --json` has printed."""
    from datetime import datetime

    return datetime.fromisoformat(json.loads(manifest)["recovery_point"]).timestamp()
