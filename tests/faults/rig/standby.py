"""A second Postgres that follows the first, and takes its place when the first is gone."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from pathlib import Path

import langgraph_runtime_holdfast.local.postgres as embedded
from langgraph_runtime_holdfast.local.unprivileged import give_away, unprivileged_prefix
from tests.faults.rig.postgres import Postgres

_FOLLOWS_SECONDS = 60.0
_POLL_SECONDS = 0.1
_FOLLOWERS = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"


class Standby(Postgres):
    """Made with `pg_basebackup` from a primary that runs."""

    def __init__(self, folder: Path, primary: Postgres) -> None:
        """Choose the port; nothing is copied yet."""
        super().__init__(folder)
        self._folder = folder
        self._primary = primary

    async def follow(self, *, synchronously: bool) -> None:
        """Copy the primary, start, and return when it streams.

        Args:
            synchronously: From then on no commit of the primary is acknowledged before it is on disk here.
        """
        await asyncio.to_thread(self._copy)
        await self.start()
        deadline = time.monotonic() + _FOLLOWS_SECONDS
        while await self._primary.ask(_FOLLOWERS) != [(1,)]:
            assert time.monotonic() < deadline, "the standby does not follow"
            await asyncio.sleep(_POLL_SECONDS)
        if synchronously:  # after the copy, which would wait for a standby of its own otherwise
            await self._primary.set(synchronous_standby_names="*")

    async def promote(self) -> None:
        """Make it a primary; returns when it takes writes."""
        await self.ask("SELECT pg_promote()")

    def _copy(self) -> None:
        self._folder.mkdir(exist_ok=True)
        give_away(self._folder)
        shutil.copy(self._primary.folder / "password", self._folder / "password")
        program = embedded.bin_folder(embedded.VERSION) / "pg_basebackup"
        command = [str(program), "--pgdata", str(self._folder / "data"), "--dbname", self._primary.uri]
        subprocess.run(
            [
                *unprivileged_prefix([program, self._folder]),
                *command,
                "--write-recovery-conf",
                "--checkpoint=fast",
            ],
            check=True,
            cwd=self._folder,
            env=embedded.bare_environment(),
            capture_output=True,
        )
