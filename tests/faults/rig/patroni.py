"""Two Postgres that Patroni looks after, with an etcd between them: one is the primary, the other follows it.

All real: `patroni` from the wheel, `etcd` from the Debian package etcd-server, Postgres as everywhere here.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, LiteralString

import httpx
import psutil
import psycopg
import pytest
import yaml

import langgraph_runtime_holdfast.local.postgres as embedded
from langgraph_runtime_holdfast.local.ports import HOST, choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart
from langgraph_runtime_holdfast.local.unprivileged import give_away, unprivileged_prefix
from tests.faults.rig import keeper
from tests.faults.rig.postgres import Postgres
from tests.faults.rig.proxy import Proxy

USER = DATABASE = "holdfast"
LEADER_SECONDS = 20
"""After how long a silent primary is replaced (`ttl`): the least that Patroni takes."""
_PYTHON = Path(sys.executable).resolve()
_LAG_BYTES = 16 * 1024 * 1024  # what the load writes in some seconds
_PATIENCE_SECONDS = 150.0
_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 5.0
_SWITCHOVER_SECONDS = 60.0


class Node:
    """One Postgres with its Patroni, on the same ports however often it is started."""

    def __init__(self, folder: Path, ports: tuple[int, int], secret: str, etcd_port: int) -> None:
        """Know the ports of Postgres and of Patroni's API; nothing is started yet."""
        self.name = folder.name
        self.port, self._api_port = ports
        self.cable = Proxy([self.port])
        """By this the other node reaches this one; servers do not go by it."""
        self.api = f"http://{HOST}:{self._api_port}"
        self._folder = folder
        self._secret = secret
        self._etcd_port = etcd_port
        self._starts = 0
        self._running: RunningPart | None = None

    async def start(self, *, synchronously: bool) -> None:
        """Start Patroni, which makes, copies, rewinds or starts its Postgres as it sees fit.

        Args:
            synchronously: Whether a new cluster replicates so; one that is there keeps what it has.
        """
        if not self.cable.port:
            await self.cable.open()
        self._folder.mkdir(exist_ok=True)
        give_away(self._folder)
        config = self._folder / "patroni.yml"
        config.write_text(yaml.safe_dump(self._config(synchronously)))
        give_away(config)
        self._starts += 1
        reached = [self._programs / "postgres", self._folder, _PYTHON]
        self._running = RunningPart(
            Part(
                name=self.name,
                command=[
                    *unprivileged_prefix(reached),
                    *(sys.executable, "-I", keeper.__file__),
                    *(sys.executable, "-I", "-m", "patroni", str(config)),
                ],
                environment=embedded.bare_environment(),
                folder=self._folder,
                address=self.api,
                log=self._folder / f"patroni-{self._starts}.log",
                grace_seconds=10.0,
            )
        )

    async def stop(self) -> None:
        """End it for sure."""
        if self._running is not None:
            await asyncio.to_thread(self._running.stop)
            self._running = None
        if self.cable.port:
            await self.cable.close()

    async def kill(self) -> None:
        """Lose the machine: SIGKILL for Patroni, Postgres and each of its processes, at once."""
        assert self._running is not None, "start() comes first"
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._running.exit_code is None:  # the keeper ends when nothing is left
            assert time.monotonic() < deadline, f"{self.name} was killed and still runs"
            await asyncio.sleep(_POLL_SECONDS / 5)
        self._running = None

    def check_alive(self) -> None:
        """Raise LocalStackError, with the end of its log, if it was started and has ended by itself."""
        if self._running is not None:
            self._running.check_alive()

    def processes(self) -> list[Any]:
        """Patroni first, then its Postgres and whatever else there is."""
        assert self._running is not None, "start() comes first"
        (kept,) = psutil.Process(self._running.leash_id).children()
        found = kept.children(recursive=True)
        return sorted(found, key=_is_postgres)

    @property
    def agent(self) -> Any:
        """The process of Patroni itself."""
        return self.processes()[0]

    def said(self, text: str) -> list[str]:
        """The lines of its logs, Patroni's and Postgres', that have this text."""
        logs = sorted(self._folder.glob("patroni-*.log"))
        return [line for log in logs for line in log.read_text(errors="replace").splitlines() if text in line]

    async def is_in_recovery(self) -> bool:
        """Whether it takes no writes."""
        ((answer,),) = await self.ask("SELECT pg_is_in_recovery()", "postgres")
        return bool(answer)

    async def ask(self, statement: LiteralString, database: str = DATABASE) -> list[tuple[Any, ...]]:
        """Run a statement on this very node, whatever it is just now."""
        uri = f"postgresql://{USER}:{self._secret}@{HOST}:{self.port}/{database}"
        async with await psycopg.AsyncConnection.connect(
            uri, autocommit=True, connect_timeout=2
        ) as connection:
            cursor = await connection.execute(statement)
            return await cursor.fetchall() if cursor.description else []

    @property
    def _programs(self) -> Path:
        return embedded.bin_folder(embedded.VERSION)

    def _config(self, synchronously: bool) -> dict[str, Any]:
        password = {"password": self._secret}
        return {
            "scope": "holdfast",
            "name": self.name,
            "restapi": {
                "listen": f"{HOST}:{self._api_port}",
                "connect_address": f"{HOST}:{self._api_port}",
            },
            "etcd3": {"host": f"{HOST}:{self._etcd_port}"},
            "watchdog": {"mode": "off"},  # there is none here
            "bootstrap": {
                "dcs": {
                    "ttl": LEADER_SECONDS,
                    "loop_wait": 1,
                    "retry_timeout": 3,
                    "synchronous_mode": synchronously,
                    "maximum_lag_on_failover": _LAG_BYTES,
                    "postgresql": {
                        "use_pg_rewind": True,
                        "use_slots": True,
                        "parameters": {"max_connections": 200, "track_commit_timestamp": "on"},
                    },
                },
                "initdb": [
                    {"encoding": "UTF8"},
                    {"locale-provider": "builtin"},
                    {"builtin-locale": "C.UTF-8"},
                    {"locale": "C"},
                ],
            },
            "postgresql": {
                "listen": f"{HOST}:{self.port}",
                "connect_address": f"{HOST}:{self.cable.port}",
                "bin_dir": str(self._programs),
                "data_dir": str(self._folder / "data"),
                "pgpass": str(self._folder / "pgpass"),
                "authentication": {
                    "superuser": {"username": USER, **password},
                    "replication": {"username": "replicator", **password},
                },
                "pg_hba": [
                    f"host all all {HOST}/32 scram-sha-256",
                    f"host replication replicator {HOST}/32 scram-sha-256",
                ],
                "parameters": {"unix_socket_directories": ""},
            },
        }


class PatroniCluster(Postgres):
    """Both nodes as one database: what is asked goes to the primary, whichever that is."""

    def __init__(self, folder: Path, *, synchronous: bool) -> None:
        """Choose ports and passwords; nothing is started yet. Without etcd the test is skipped.

        Args:
            folder: For data and logs.
            synchronous: Whether a commit is acknowledged only when the follower has it on disk
                (`synchronous_mode`).
        """
        if shutil.which("etcd") is None:
            pytest.skip("Patroni needs etcd, which is not here: apt-get install etcd-server")
        super().__init__(folder)
        self._synchronous = synchronous
        # Together, so that no two are alike.
        client, peer, *others = choose_ports(
            dict.fromkeys(("client", "peer", "0", "1", "2", "3"), 0)
        ).values()
        self._etcd_ports = client, peer
        self._etcd: RunningPart | None = None
        secret = secrets.token_urlsafe(16)
        self.nodes = [
            Node(folder / f"node-{at}", (others[at], others[at + 2]), secret, client) for at in range(2)
        ]
        ports = ",".join(f"{HOST}:{node.port}" for node in self.nodes)
        self._uri = f"postgresql://{USER}:{secret}@{ports}/{DATABASE}?target_session_attrs=read-write"

    @property
    def uri(self) -> str:
        """Both addresses; a session is with the one that takes writes."""
        return self._uri

    async def start(self) -> None:
        """Start all; returns when there is a primary with a database, and the other node follows it."""
        self.folder.mkdir(exist_ok=True)
        give_away(self.folder)
        await self._start_etcd()
        for node in self.nodes:
            await node.start(synchronously=self._synchronous)
        primary = await self.until_led()
        await primary.ask("CREATE DATABASE holdfast", "postgres")
        await self.until_followed()

    async def stop(self) -> None:
        """End all of it."""
        await asyncio.gather(*(node.stop() for node in self.nodes))
        if self._etcd is not None:
            await asyncio.to_thread(self._etcd.stop)
            self._etcd = None

    async def switch_over(self) -> Node:
        """Have the follower take over, as before work on the primary's machine; returns the new primary."""
        old = await self.until_led()
        (new,) = (node for node in self.nodes if node is not old)
        async with httpx.AsyncClient(timeout=_SWITCHOVER_SECONDS) as http:
            wish = {"leader": old.name, "candidate": new.name}
            answer = await http.post(f"{old.api}/switchover", json=wish)
        assert answer.is_success, answer.text
        assert await self.until_led() is new
        return new

    async def until_led(self, *, by_other_than: Node | None = None) -> Node:
        """Wait until Patroni says of a node that it is the primary, and it takes writes; returns it."""

        def leaders(members: dict[str, Any]) -> list[Node]:
            roles = {name: (each["role"], each["state"]) for name, each in members.items()}
            return [
                node
                for node in self.nodes
                if roles.get(node.name) == ("leader", "running") and node is not by_other_than
            ]

        (leader,) = leaders(await self._until("a primary", lambda members: bool(leaders(members))))
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while await leader.is_in_recovery():
            assert time.monotonic() < deadline, f"{leader.name} leads and takes no writes"
            await asyncio.sleep(_POLL_SECONDS / 5)
        return leader

    async def return_of(self, node: Node) -> None:
        """Start a node that was killed; returns when it follows the other one."""
        node.cable.heal()
        await node.start(synchronously=self._synchronous)
        assert await self.until_followed() is node

    async def until_followed(self) -> Node:
        """Wait until the other node follows the primary, with nothing left to get; returns the follower."""
        roles = ("sync_standby",) if self._synchronous else ("replica",)

        def is_followed(members: dict[str, Any]) -> bool:
            timelines = {each.get("timeline") for each in members.values()}
            return (
                len(members) == len(self.nodes)
                and len(timelines) == 1
                and any(
                    each["role"] in roles and each["state"] == "streaming" and each.get("lag") == 0
                    for each in members.values()
                )
            )

        members = await self._until("a follower", is_followed)
        return next(node for node in self.nodes if members[node.name]["role"] in roles)

    async def _until(self, what: str, fact: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask the nodes in turn until one says that it is so; returns the members by name."""
        deadline, seen = time.monotonic() + _PATIENCE_SECONDS, {}
        async with httpx.AsyncClient(timeout=_ANSWER_SECONDS) as http:
            while True:
                for node in self.nodes:
                    node.check_alive()
                    with suppress(httpx.HTTPError):
                        told = (await http.get(f"{node.api}/cluster")).json()
                        seen = {each["name"]: each for each in told["members"]}
                        if fact(seen):
                            return seen
                assert time.monotonic() < deadline, f"not within {_PATIENCE_SECONDS} s: {what}; {seen}"
                await asyncio.sleep(_POLL_SECONDS)

    async def _start_etcd(self) -> None:
        client, peer = (f"http://{HOST}:{port}" for port in self._etcd_ports)
        folder = self.folder / "etcd"
        folder.mkdir()
        command = [
            *("etcd", "--name", "one", "--data-dir", str(folder / "data"), "--log-level", "warn"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"one={peer}", "--logger", "zap"),
        ]
        self._etcd = RunningPart(
            Part(
                name="etcd",
                command=command,
                environment=embedded.bare_environment(),
                folder=folder,
                address=client,
                is_healthy=lambda: _is_healthy(client),
                log=folder / "etcd.log",
            )
        )
        await asyncio.to_thread(self._etcd.wait_until_healthy)


def _is_postgres(process: Any) -> bool:
    try:
        return bool(process.name() == "postgres")
    except psutil.NoSuchProcess:  # ended since it was found
        return True


def _is_healthy(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health", timeout=_ANSWER_SECONDS).is_success
    return False
