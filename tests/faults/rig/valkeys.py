"""Valkeys of several servers, of which one can be killed."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

from tests.contract.valkeys import Cluster, Watched, running_cluster, running_sentinel
from tests.faults.rig.valkey import Valkey


class ClusteredValkey(Valkey):
    """A cluster of three nodes without replicas, which goes on without one of them."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet."""
        super().__init__(folder)
        self._all = folder
        self._held = ExitStack()
        self._cluster: Cluster | None = None

    async def start(self) -> None:
        """Start the cluster; `restart_one` is for a node."""
        self._cluster = await asyncio.to_thread(self._held.enter_context, running_cluster(self._all))
        self.uri = self._cluster.uri

    async def stop(self) -> None:
        """End all nodes."""
        await asyncio.to_thread(self._held.close)

    async def kill_one(self) -> None:
        """SIGKILL the node that REDIS_URI names, with all that is in its slots."""
        assert self._cluster is not None, "start() comes first"
        await asyncio.to_thread(self._cluster.nodes[0].kill)

    async def restart_one(self) -> None:
        """Start it again, empty."""
        assert self._cluster is not None, "start() comes first"
        await asyncio.to_thread(self._cluster.nodes[0].start_again)


class WatchedValkey(Valkey):
    """A primary with a replica under a Sentinel."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet."""
        super().__init__(folder)
        self._all = folder
        self._held = ExitStack()
        self._watched: Watched | None = None

    async def start(self) -> None:
        """Start all three."""
        self._watched = await asyncio.to_thread(self._held.enter_context, running_sentinel(self._all))
        self.uri = self._watched.uri

    async def stop(self) -> None:
        """End all of them."""
        await asyncio.to_thread(self._held.close)

    async def fail_over(self) -> None:
        """SIGKILL the primary; returns when the replica is the primary."""
        assert self._watched is not None, "start() comes first"
        await asyncio.to_thread(self._watched.primary.kill)
        await asyncio.to_thread(self._watched.until_promoted)
