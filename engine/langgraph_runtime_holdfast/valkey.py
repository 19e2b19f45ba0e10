"""Valkey (or Redis): clients for each event loop, and what the deployment's keys are called.

Postgres is the truth, Valkey only a hint: it carries wake-ups, stream events and cancel signals. Nothing
here may fail a run or a create; callers catch `VALKEY_ERRORS`, log them, and let the database's poll do it.

Keys are spread over a few shards. In a cluster a shard is a slot, and on some node; commands and scripts keep
to one shard each, which stands or falls by itself. One server, or what Sentinels name, has all of them.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection
from redis.exceptions import ClusterCrossSlotError, MovedError, RedisError

from langgraph_runtime_holdfast.settings import settings
from langgraph_runtime_holdfast.valkey_address import Address, Node, TlsConnection, read_address
from langgraph_runtime_holdfast.valkey_nodes import Nodes

logger = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

VALKEY_ERRORS: Final = (RedisError, OSError, TimeoutError)
SHARDS: Final = 16
"""Enough to spread over the nodes of a cluster; whoever follows feeds has a connection for each."""
_ANY: Final = ("", 0)


class _SentinelManagedTlsConnection(SentinelManagedConnection, TlsConnection):
    """To the server that the Sentinels name."""


class _Clients:
    """Those of one event loop."""

    def __init__(self) -> None:
        self.at: dict[Node, Redis] = {}
        self.sentinel: Sentinel | None = None

    async def close(self) -> None:
        for client in self.at.values():
            await client.aclose()
        if self.sentinel is not None:
            for client in self.sentinel.sentinels:
                await client.aclose()


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients] = WeakKeyDictionary()
_clusters: dict[str, Nodes] = {}
"""By REDIS_URI: what is known to be a cluster."""


def address() -> Address:
    """Where Valkey is.

    Raises:
        EngineError: REDIS_URI cannot be used.
    """
    known = settings()
    return read_address(
        known.redis_uri,
        is_cluster=known.redis_cluster,
        ca_cert=known.redis_tls_ca_cert,
        max_connections=known.redis_max_connections,
        connect_timeout=known.redis_connect_timeout,
        health_check_interval=known.redis_health_check_interval,
    )


def key(owner: object, *parts: object) -> str:
    """Name a key of this deployment.

    Args:
        owner: A thread, or a process: its keys are in one shard, and so can be used together.
        parts: What it is of theirs.
    """
    return _named(zlib.crc32(str(owner).encode()) % SHARDS, *parts)


def beside(name: str, *parts: object) -> str:
    """Name another key in the shard of this one."""
    return name[: name.index("}") + 1] + ":" + ":".join(str(part) for part in parts)


def in_every_shard(*parts: object) -> list[str]:
    """Name a key in each shard."""
    return [_named(shard, *parts) for shard in range(SHARDS)]


def is_cluster() -> bool:
    """Whether Valkey is a cluster, as far as is known."""
    return settings().redis_uri in _clusters or address().kind == "cluster"


def note_cluster() -> None:
    """Remember that the server of REDIS_URI belongs to a cluster."""
    _clusters.setdefault(settings().redis_uri, Nodes(address().nodes))


def place(name: str) -> str:
    """What stands or falls together with this key: its shard in a cluster, else all of them."""
    return name[name.index("{") + 1 : name.index("}")] if is_cluster() else ""


async def ask(name: str, send: Callable[[Redis], Awaitable[T]]) -> T:
    """Have something done by the server that has this key; what else it is about is in the same shard.

    Raises:
        RedisError, OSError, TimeoutError: Valkey, or this part of it, is away.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0

    def end_if_cancelled() -> None:
        # The client sends with `wait_for`, and Python 3.11's loses a cancellation that comes as the sending
        # ends. A task that goes on then is waited for without end when the server stops.
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError

    try:
        answer = await _ask(name, send)
    except VALKEY_ERRORS:
        end_if_cancelled()
        raise
    end_if_cancelled()
    return answer


async def _ask(name: str, send: Callable[[Redis], Awaitable[T]]) -> T:
    if not is_cluster():
        try:
            return await send(valkey())
        except (MovedError, ClusterCrossSlotError):
            # Valkey was away at the start, so nobody has asked; or it was replaced by a cluster.
            note_cluster()
            await logger.ainfo("Valkey is a cluster")
            raise
    note_cluster()
    nodes, shard = _clusters[settings().redis_uri], place(name)
    try:
        try:
            return await send(_client_at(await nodes.find(shard, _client_at)))
        except MovedError as error:
            # All of it is about one slot, so none of it was done.
            nodes.note_moved(shard, error)
            return await send(_client_at((error.host, error.port)))
    except (*VALKEY_ERRORS, asyncio.CancelledError):
        nodes.doubt(shard)
        raise


def valkey() -> Redis:
    """This loop's client of the one server, or of the one that the Sentinels name."""
    where = address()
    return _client_at(where.nodes[0] if where.nodes and where.kind != "sentinel" else _ANY)


def sentinel() -> Sentinel:
    """This loop's Sentinels."""
    clients = _of_loop()
    if clients.sentinel is None:
        where = address()
        clients.sentinel = Sentinel([])  # type: ignore[no-untyped-call]
        clients.sentinel.sentinels = [
            Redis.from_pool(ConnectionPool(host=host, port=port, **where.sentinel_options))
            for host, port in where.nodes
        ]
    return clients.sentinel


async def stop_valkey() -> None:
    """Close this loop's clients; a loop of jobs calls it before it ends."""
    if (clients := _clients.pop(asyncio.get_running_loop(), None)) is not None:
        await clients.close()


def connection_stats() -> dict[str, int]:
    """Gauges of every client of this process, added up."""
    sums = {"idle_connections": 0, "in_use_connections": 0, "max_connections": 0}
    for client in [one for each in list(_clients.values()) for one in list(each.at.values())]:
        pool: Any = client.connection_pool
        sums["idle_connections"] += len(getattr(pool, "_available_connections", ()))
        sums["in_use_connections"] += len(getattr(pool, "_in_use_connections", ()))
        sums["max_connections"] += int(getattr(pool, "max_connections", 0))
    return sums


def _named(shard: int, *parts: object) -> str:
    return f"{settings().redis_key_prefix}{{{shard}}}:" + ":".join(str(part) for part in parts)


def _of_loop() -> _Clients:
    loop = asyncio.get_running_loop()
    if (clients := _clients.get(loop)) is None:
        clients = _clients[loop] = _Clients()
    return clients


def _client_at(node: Node) -> Redis:
    """This loop's client of a server; made at the first use, connected when it is needed."""
    clients = _of_loop()
    if (client := clients.at.get(node)) is None:
        client = clients.at[node] = _new_client(node)
    return client


def _new_client(node: Node) -> Redis:
    where = address()
    options = dict(where.options)
    if where.kind == "sentinel":
        is_tls = options.pop("connection_class") is TlsConnection
        kind = _SentinelManagedTlsConnection if is_tls else SentinelManagedConnection
        client: Redis = sentinel().master_for(where.master, connection_class=kind, **options)
        return client
    if node != _ANY:
        options["host"], options["port"] = node
    return Redis.from_pool(ConnectionPool(**options))
