"""Valkey (or Redis): one client for each event loop, and what the deployment's keys are called.

Postgres is the truth, Valkey only a hint: it carries wake-ups, stream events and cancel signals. Nothing
here may fail a run or a create; callers catch `VALKEY_ERRORS`, log them, and let the database's poll do it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from weakref import WeakKeyDictionary

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.settings import settings

logger = structlog.stdlib.get_logger(__name__)

OLDEST: Final = (6, 2)
VALKEY_ERRORS: Final = (RedisError, OSError, TimeoutError)

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = WeakKeyDictionary()


def valkey() -> Redis:
    """This loop's client; made at the first use, connected when it is needed."""
    loop = asyncio.get_running_loop()
    client = _clients.get(loop)
    if client is None:
        if not settings().redis_uri:
            raise EngineError("REDIS_URI is not set. Set it to redis://HOST:6379.")
        client = _clients[loop] = Redis.from_url(
            settings().redis_uri,
            socket_connect_timeout=2.0,
            socket_timeout=10.0,
            **({} if settings().redis_uri.startswith("unix:") else {"socket_keepalive": True}),
            health_check_interval=15,
            # An old Redis refuses the newer protocol, and would look as if it were away.
            protocol=2,
            # A caller that can do without an answer must have the error now.
            retry=Retry(NoBackoff(), 1),
            max_connections=500,
        )
    return client


def key(*parts: object) -> str:
    """Name a key of this deployment."""
    return settings().redis_key_prefix + ":".join(str(part) for part in parts)


async def start_valkey() -> None:
    """Check that Valkey is new enough. One that is away is no obstacle: it will be back.

    Raises:
        EngineError: REDIS_URI is wrong, or the server is too old.
    """
    try:
        info = await valkey().info("server")
    except ValueError as error:
        raise EngineError(
            f"REDIS_URI is not an address that Valkey takes: {error}. Write redis://HOST:6379."
        ) from None
    except VALKEY_ERRORS as error:
        await logger.awarning(
            "Valkey is away: runs go on, signals take up to a poll longer", error=str(error)
        )
        return
    version = str(info.get("valkey_version") or info.get("redis_version") or "0")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        oldest = ".".join(str(part) for part in OLDEST)
        raise EngineError(f"Redis is version {version}; {oldest} or newer (or any Valkey) is needed.")


async def stop_valkey() -> None:
    """Close this loop's client; a loop of jobs calls it before it ends."""
    if (client := _clients.pop(asyncio.get_running_loop(), None)) is not None:
        await client.aclose()


def connection_stats() -> dict[str, int]:
    """Gauges of every client of this process, added up."""
    sums = {"idle_connections": 0, "in_use_connections": 0, "max_connections": 0}
    for client in list(_clients.values()):
        pool: Any = client.connection_pool
        sums["idle_connections"] += len(getattr(pool, "_available_connections", ()))
        sums["in_use_connections"] += len(getattr(pool, "_in_use_connections", ()))
        sums["max_connections"] += int(getattr(pool, "max_connections", 0))
    return sums
