"""An upgrade, the way back, and the upgrade again, step by step under load.

What is counted in each step is what callers saw until it had been at rest for a while: nothing may have
failed, whichever server of whichever version took their call and whichever worked on it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.deploy.rehearsal.counts import Row
from tests.deploy.rehearsal.stage import Stage
from tests.deploy.rehearsal.versions import Version
from tests.faults.rig.setup import Role

AT_REST = {"runs": 6, "stateless": 6, "streams": 3, "cancels": 2}
"""How much has to go well in a step after the last server is ready."""
STEP_SECONDS = 120.0

Tell = Callable[[Row], None]


class Rehearsal:
    """The steps, each of which is a row."""

    def __init__(self, old: Version, new: Version, folder: Path, tell: Tell = lambda row: None) -> None:
        """Prepare.

        Args:
            old: What serves now.
            new: What is to serve.
            folder: For data and logs.
            tell: Called with each row when it is there.
        """
        self.rows: list[Row] = []
        self._old, self._new, self._folder, self._tell = old, new, folder, tell

    async def rolling(self) -> list[Row]:
        """Two servers, one after the other: forwards, with kills in between, back, and forwards again."""
        async with self._stage("all", "all") as stage:
            first, second = stage.servers
            await self._step(stage, "both old", stage.leave_things_waiting)
            await self._step(stage, "the new `holdfast migrate`", lambda: stage.migrate(self._new))
            await self._step(stage, "what a later one may migrate", stage.expand)
            await self._step(stage, "one is new", lambda: stage.replace(first, self._new))
            stage.late.heal()
            await self._step(
                stage, "kill -9 of the old one", lambda: stage.kill(second, self._old), is_killed=True
            )
            await self._step(
                stage, "kill -9 of the new one", lambda: stage.kill(first, self._new), is_killed=True
            )
            await self._step(stage, "both new", lambda: stage.replace(second, self._new))
            await self._step(stage, "back: one is old", lambda: stage.replace(first, self._old))
            await self._step(stage, "back: both old", lambda: stage.replace(second, self._old))
            await self._step(stage, "again: one is new", lambda: stage.replace(first, self._new))
            await self._step(stage, "again: both new", lambda: stage.replace(second, self._new))
            await self._end(stage)
        return self.rows

    async def split(self) -> list[Row]:
        """One answers the API, another works on all runs: whatever passes between them crosses versions."""
        async with self._stage("api", "queue") as stage:
            api, queue = stage.servers
            await self._step(stage, "split, both old", stage.leave_things_waiting)
            await stage.migrate(self._new)
            await self._step(stage, "the queue is new", lambda: stage.replace(queue, self._new))
            stage.late.heal()
            await self._step(stage, "back: the queue is old", lambda: stage.replace(queue, self._old))
            # The only one that answers: its callers wait, or are told, until it is there again.
            await self._step(stage, "the API is new", lambda: stage.replace(api, self._new), is_killed=True)
            await self._step(stage, "split, both new", lambda: stage.replace(queue, self._new))
            await self._end(stage)
        return self.rows

    @asynccontextmanager
    async def _stage(self, *roles: Role) -> AsyncIterator[Stage]:
        stage = Stage(self._folder / "-".join(roles))
        async with stage.set():
            await stage.start_servers(self._old, *roles)
            stage.traffic.start()
            yield stage

    async def _step(
        self, stage: Stage, name: str, act: Callable[[], Awaitable[None]], *, is_killed: bool = False
    ) -> None:
        before, began = stage.counts.copy(), time.monotonic()
        faults: list[str] = []
        try:
            await act()
            seconds = time.monotonic() - began
            await stage.look_after_them()
            await stage.traffic.until_more(STEP_SECONDS, **AT_REST)
        except Exception as error:  # a row too
            seconds = time.monotonic() - began
            faults.append(f"{type(error).__name__}: {error}")
        counts = stage.counts.minus(before)
        self._note(
            Row(name, stage.who_serves(), seconds, counts, faults + counts.faults(is_killed=is_killed))
        )

    async def _end(self, stage: Stage) -> None:
        before, began = stage.counts.copy(), time.monotonic()
        faults: list[str] = []
        try:
            faults += await stage.final_faults()
        except Exception as error:
            faults.append(f"{type(error).__name__}: {error}")
        counts = stage.counts.minus(before)
        seconds = time.monotonic() - began
        name = "pauses, the delayed run, callbacks"
        self._note(Row(name, stage.who_serves(), seconds, counts, faults + counts.faults(is_killed=False)))

    def _note(self, row: Row) -> None:
        self.rows.append(row)
        self._tell(row)
