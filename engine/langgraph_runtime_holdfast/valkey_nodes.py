"""Which node of a cluster has which shard of our keys.

The library's own cluster client shares one fate: a node that fails has it close or renew the connections to
all others, so a dead node would cut every stream. Here each shard stands for itself: only those of a dead
node wait, and look for who has them now.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as NodeAwayError
from redis.exceptions import MovedError, RedisError

from langgraph_runtime_holdfast.valkey_address import Node

_ANSWER_SECONDS: Final = 1.0
_BETWEEN_LOOKS_SECONDS: Final = 1.0


class Nodes:
    """What this process knows of the cluster; all its event loops share it."""

    def __init__(self, seeds: Sequence[Node]) -> None:
        """Know some nodes, which need not be there any more when others have been found."""
        self._seeds = list(seeds)
        self._all: list[Node] = []
        self._of_slot: list[tuple[int, int, Node]] = []
        self._moved: dict[int, Node] = {}
        """What has been told since the last look."""
        self._doubted: set[int] = set()
        self._looked_at = float("-inf")
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def find(self, shard: str, client_at: Callable[[Node], Redis]) -> Node:
        """Say who has the shard; asks the cluster if that is not known, or is in doubt.

        Raises:
            RedisError: No node answers, or none of them has it.
        """
        slot = key_slot(shard.encode())
        if slot in self._doubted or not self._of_slot:
            async with self._lock():
                if time.monotonic() - self._looked_at > _BETWEEN_LOOKS_SECONDS:
                    await self._look(client_at)
        if (node := self._moved.get(slot)) is not None:
            return node
        for first, last, node in self._of_slot:
            if first <= slot <= last:
                return node
        raise NodeAwayError("no node of the cluster that answers knows who has this slot")

    def note_moved(self, shard: str, error: MovedError) -> None:
        """Believe a node that says who has the shard."""
        self._moved[key_slot(shard.encode())] = (error.host, error.port)

    def doubt(self, shard: str) -> None:
        """Note that the node of a shard did not answer: another may have it soon."""
        self._doubted.add(key_slot(shard.encode()))

    async def _look(self, client_at: Callable[[Node], Redis]) -> None:
        self._looked_at = time.monotonic()
        doubted = {node for first, last, node in self._of_slot if self._is_doubted(first, last)}
        candidates = list(dict.fromkeys([*self._all, *self._seeds]))
        random.shuffle(candidates)
        error: Exception | None = None
        for node in sorted(candidates, key=doubted.__contains__):
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    asking: Any = client_at(node)
                    rows: Any = await asking.execute_command("CLUSTER", "SLOTS")
            except (RedisError, OSError, TimeoutError) as fault:
                error = fault
                continue
            self._learn(rows, node)
            return
        raise error if error is not None else NodeAwayError("no node of the cluster is known")

    def _learn(self, rows: Iterable[Sequence[Any]], told_by: Node) -> None:
        found, everybody = [], []
        for first, last, *nodes in rows:
            addresses = [_address(each, told_by) for each in nodes]
            found.append((int(first), int(last), addresses[0]))
            everybody += addresses
        self._of_slot, self._all = found, list(dict.fromkeys(everybody))
        self._moved, self._doubted = {}, set()

    def _is_doubted(self, first: int, last: int) -> bool:
        return any(first <= slot <= last for slot in self._doubted)

    def _lock(self) -> asyncio.Lock:
        return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())


def _address(node: Sequence[Any], told_by: Node) -> Node:
    # A node that does not know its own name leaves it to who asks.
    host = (node[0] or b"").decode()
    return (host if host not in ("", "?") else told_by[0], int(node[1]))
