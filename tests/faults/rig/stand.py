"""The stand: Postgres, Valkey, servers, load and measuring, set up for one scenario.

async def test_something_breaks(stand: Stand) -> None:
    async with stand.fault():  # entered with 50 runs in flight; left when the fault is over
        await stand.postgres.crash()
        await stand.postgres.start()
    await stand.check()  # waits for the runs, counts, notes the row of docs/faults.md, fails on a wrong count
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, LiteralString

import httpx
import psycopg

from sdk_client import Client
from tests.faults.rig.callbacks import Receiver
from tests.faults.rig.clock import clock_off_by
from tests.faults.rig.disk import SmallDisk
from tests.faults.rig.gauge import Gauge
from tests.faults.rig.journal import Journal, repeated
from tests.faults.rig.load import NODES, Load
from tests.faults.rig.outcome import Outcome
from tests.faults.rig.patroni import PatroniCluster
from tests.faults.rig.postgres import Postgres
from tests.faults.rig.probe import Probe
from tests.faults.rig.proxy import Proxy
from tests.faults.rig.saving import SETTINGS, lags_of, saved_nodes, saved_twice
from tests.faults.rig.server import Server
from tests.faults.rig.setup import Setup
from tests.faults.rig.standby import Standby
from tests.providers import openai_fake
from tests.providers.server import served

POLL_SECONDS = 0.1
_LAPSED = "Leases could not be extended"
_MAKE_SECONDS = 30.0
SWING_SECONDS = 120.0
CLIENTS_SECONDS = 60.0
CALLBACKS_SECONDS = 60.0
PROBE_ON_SECONDS = 1.0

_STATUS = "SELECT run_id::text, status FROM run_shown WHERE run_id = ANY(%s::uuid[])"
_RUNS = """
SELECT run.run_id::text, run.status, run.attempt, run.first_error, thread.values->'visited',
       coalesce(length(thread.values->>'filler'), 0)
FROM run_shown AS run JOIN thread USING (thread_id) WHERE run.run_id = ANY(%s::uuid[])
"""
_DOUBLED = """
SELECT coalesce(sum(runs - 1), 0) FROM (
    SELECT count(*) AS runs FROM run WHERE thread_id = ANY(%s::uuid[]) GROUP BY thread_id
) AS counted
"""
_HELD = "SELECT run_id::text, lease_token FROM run_inflight WHERE status = 'running' AND leased_by LIKE %s"
_STILL_HELD = """
SELECT count(*) FROM run_inflight AS run
JOIN unnest(%s::uuid[], %s::bigint[]) AS held (run_id, token) USING (run_id)
WHERE run.status = 'running' AND run.lease_token = held.token
"""


class Stand:
    """Everything of one scenario; made by the fixture `stand`."""

    def __init__(self, outcome: Outcome, folder: Path, setup: Setup) -> None:
        """Prepare; `running()` starts it.

        Args:
            outcome: To be filled in.
            folder: For data and logs.
            setup: What there is.
        """
        self.postgres = _make_postgres(folder / "postgres", setup)
        self.valkey = setup.valkey(folder / "valkey")
        self.receiver = Receiver()
        self.journal = Journal(folder / "journal")
        self.cables: list[Proxy] = []
        """What each server reaches Postgres by, if the scenario asked for it."""
        self.servers: list[Server] = []
        self.outcome = outcome
        outcome.replication_is_asynchronous = "asynchronous" in (setup.standby, setup.patroni)
        self.began = self.ended = 0.0
        """When the fault began and ended, by the monotonic clock."""
        self.openai = openai_fake.OpenAIFake()
        """What agents ask, if the scenario has models."""
        self._openai_url = ""
        self._folder = folder
        self._setup = setup
        self._watching: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything, and end everything."""
        async with AsyncExitStack() as stack:
            stack.callback(self.receiver.close)
            stack.push_async_callback(self.postgres.stop)
            stack.push_async_callback(self.valkey.stop)
            await asyncio.gather(self.postgres.start(), self.valkey.start())
            await self._set_postgres()
            if self._setup.small_disk:
                await self._move_to_disk(stack)
            if self._setup.standby != "none":
                await self._start_standby(stack)
            if self._setup.models:
                self._openai_url = stack.enter_context(served(self.openai.app))
            await self._start_servers(stack)
            self.gauge = Gauge(self.servers, lambda: self.postgres)
            stack.push_async_callback(self.gauge.stop)
            self.client = await stack.enter_async_context(Client(self.url))
            self.load = Load(self.client, self.receiver.url, self._setup.shape, self.outcome.durability)
            stack.push_async_callback(self.load.stop)
            stack.push_async_callback(self._stop_watching)
            yield

    @asynccontextmanager
    async def fault(self) -> AsyncIterator[None]:
        """Run the block as the fault: with the load in full swing, and timed."""
        await self.load.submit()
        self.probe = Probe(self.url, await self._make_thread())
        await self.probe.start()
        self.gauge.start()
        self.load.attach()
        await self.until(self._is_in_full_swing, "the load is in full swing")
        self.began = time.monotonic()
        self.load.create_more()
        try:
            yield
        finally:
            self.ended = time.monotonic()

    def over_now(self) -> None:
        """Say that the fault ends here, where the rest of the block is not part of it."""
        self.ended = time.monotonic()

    async def kill(self, server: Server) -> None:
        """SIGKILL a server and measure from here until others may take its runs."""
        await server.kill()
        await self.time_reclaim(server)

    async def time_reclaim(self, server: Server) -> None:
        """Measure from here until others may take the runs of a server that has just been stopped."""
        held = await self.postgres.ask(_HELD, [f"%:{server.process.pid}:%"])
        self._watching.append(asyncio.create_task(self._watch_reclaim(time.monotonic(), held)))

    async def fail_over(self) -> None:
        """Lose the primary for good, as its machine burns down, and make the standby one."""
        await self.postgres.crash()
        await self.standby.promote()
        self.postgres = self.standby

    async def keep_servers_running(self) -> None:
        """Start each server again whenever it has ended, as a supervisor does, until cancelled."""
        while True:
            for server in self.servers:
                if server.has_ended:
                    await server.start()
            await asyncio.sleep(POLL_SECONDS)

    async def until(self, fact: Callable[[], bool], what: str, seconds: float = SWING_SECONDS) -> None:
        """Wait until a fact holds.

        Raises:
            AssertionError: It did not in time; names it.
        """
        deadline = time.monotonic() + seconds
        while not fact():
            assert time.monotonic() < deadline, f"still not after {seconds:.0f} s: {what}"
            await asyncio.sleep(POLL_SECONDS / 5)

    async def check(self, *, patience_seconds: float = 90.0) -> None:
        """Wait for the runs, fill in the outcome, and fail if a count is wrong.

        Args:
            patience_seconds: How long after the fault a run that has not ended counts as stuck.
        """
        found = self.outcome
        try:
            await self._until_all_done(patience_seconds)
            await self.load.until_clients_are_done(CLIENTS_SECONDS)
            await self._until_called_back()
            await asyncio.sleep(max(0.0, self.ended + PROBE_ON_SECONDS - time.monotonic()))
        finally:
            await self.probe.stop()
            await self.gauge.stop()
            found.api_back_seconds = self.probe.back_after(self.ended)
        self._count_callbacks()
        self._count_clients()
        await self._count_nodes()
        await self._count_runs()
        found.check()

    def check_that_no_lease_was_lost(self) -> None:
        """Fail if a run was taken from a worker that was well all the time, or stopped by it for that.

        Raises:
            AssertionError: Says how many took another attempt, or shows the log.
        """
        lapsed = [line for server in self.servers for line in server.said(_LAPSED)]
        # They go on where they were stopped, and such an attempt is not counted.
        assert not lapsed, "\n".join(["leases lapsed with their worker alive", *lapsed])
        self.check_that_no_run_was_taken()

    def check_that_no_run_was_taken(self) -> None:
        """Fail if a run was taken from a worker that lives, though nobody could extend a lease meanwhile.

        Raises:
            AssertionError: Says how many took another attempt.
        """
        assert not self.outcome.retried, (
            f"{self.outcome.retried} runs were tried again with their worker alive"
        )

    @property
    def patroni(self) -> PatroniCluster:
        """The two Postgres, if the scenario has them."""
        assert isinstance(self.postgres, PatroniCluster), "the scenario has one Postgres"
        return self.postgres

    @property
    def url(self) -> str:
        """Where clients reach the servers."""
        return (
            f"http://127.0.0.1:{self._balancer.port}" if len(self._answering) > 1 else self._answering[0].url
        )

    @property
    def cable(self) -> Proxy:
        """What the only server reaches Postgres by."""
        (cable,) = self.cables
        return cable

    def environment(self, cable: Proxy | None = None) -> dict[str, str]:
        """What a server of this scenario is given."""
        uri, port = self.postgres.uri, self.postgres.port
        if cable is not None:
            uri = uri.replace(f":{port}/", f":{cable.port}/")
        if self._setup.standby != "none":
            uri = uri.replace(f":{port}/", f":{port},127.0.0.1:{self.standby.port}/")
        return {
            "DATABASE_URI": uri,
            "REDIS_URI": self.valkey.uri,
            "FAULTS_JOURNAL": str(self.journal.path),
            **({"BG_JOB_ISOLATED_LOOPS": "true"} if self._setup.isolated_loops else {}),
            **self._models(),
        }

    def _models(self) -> dict[str, str]:
        """What leads the real clients to the fake."""
        if not self._setup.models:
            return {}
        return {"OPENAI_API_KEY": openai_fake.KEY, "OPENAI_BASE_URL": f"{self._openai_url}/v1"}

    async def _move_to_disk(self, stack: AsyncExitStack) -> None:
        self.disk = SmallDisk()
        self.disk.mount()
        stack.callback(self.disk.unmount)
        # The unmounting comes after the end of what uses it.
        stack.push_async_callback(self.postgres.stop)
        await self.postgres.move_tables_to(self.disk.tables)

    async def _set_postgres(self) -> None:
        settings = dict(self._setup.postgres)
        if self.outcome.durability == "async":
            settings |= SETTINGS
        if settings and self._setup.patroni == "none":  # Patroni has settings of its own
            await self.postgres.set(**settings)
            await self.postgres.stop()
            await self.postgres.start()

    async def _start_standby(self, stack: AsyncExitStack) -> None:
        self.standby = Standby(self._folder / "standby", self.postgres)
        stack.push_async_callback(self.standby.stop)
        stack.push_async_callback(
            self.postgres.stop
        )  # the first one; `self.postgres` is another after a failover
        await self.standby.follow(synchronously=self._setup.standby == "synchronous")

    async def _start_servers(self, stack: AsyncExitStack) -> None:
        clocks = self._setup.clocks_off_by_seconds
        for number, role in enumerate(self._setup.all_roles):
            clock = clock_off_by(clocks[number]) if clocks else {}
            cable = await self._lay_cable(stack) if self._setup.through_proxy else None
            environment = self.environment(cable) | clock
            config = "models.json" if self._setup.models else "langgraph.json"
            server = Server(self._folder / f"server-{number}", environment, role, config)
            self.servers.append(server)
            stack.push_async_callback(server.stop)
            await server.start()
        await asyncio.gather(*(server.wait_until_ready() for server in self.servers))
        self._answering = [server for server in self.servers if server.role != "queue"]
        if len(self._answering) > 1:
            self._balancer = Proxy([server.port for server in self._answering])
            await self._balancer.open()
            stack.push_async_callback(self._balancer.close)

    async def _lay_cable(self, stack: AsyncExitStack) -> Proxy:
        cable = Proxy([self.postgres.port])
        await cable.open()
        stack.push_async_callback(cable.close)
        self.cables.append(cable)
        return cable

    async def _make_thread(self) -> str:
        """A thread without values, so that reading it costs the same in each scenario."""
        async with httpx.AsyncClient(base_url=self.url, timeout=_MAKE_SECONDS) as http:
            answer = await http.post("/threads", json={})
            return str(answer.raise_for_status().json()["thread_id"])

    def _is_in_full_swing(self) -> bool:
        """Some runs are done, and the next ones are in the midst of it."""
        ended, done = self.journal.ended, self._setup.shape.done
        return ended(NODES[-1]) >= done and ended(NODES[0]) >= done * 3 // 2

    async def _until_all_done(self, patience_seconds: float) -> None:
        """Wait until no run is pending or running; note when that was."""
        while time.monotonic() < self.ended + patience_seconds:
            rows = None if self.load.not_yet_created else await self._rows(_STATUS)
            if rows is not None and all(row[1] not in ("pending", "running") for row in rows.values()):
                self.outcome.all_done_seconds = time.monotonic() - self.ended
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _rows(self, statement: LiteralString) -> dict[str, tuple[Any, ...]] | None:
        """The runs as the database has them, by id; None while it is away."""
        try:
            rows = await self.postgres.ask(statement, [[handle.run_id for handle in self.load.handles]])
        except psycopg.Error:
            return None
        return {row[0]: row for row in rows}

    async def _until_called_back(self) -> None:
        deadline = time.monotonic() + CALLBACKS_SECONDS
        while time.monotonic() < deadline:
            if not self._not_called_back():
                return
            await asyncio.sleep(POLL_SECONDS)

    def _not_called_back(self) -> set[str]:
        return {handle.run_id for handle in self.load.handles} - set(self.receiver.arrived())

    async def _watch_reclaim(self, since: float, held: list[tuple[Any, ...]]) -> None:
        ids, tokens = [row[0] for row in held], [row[1] for row in held]
        while True:
            ((count,),) = await self.postgres.ask(_STILL_HELD, [ids, tokens])
            if not count:
                break
            await asyncio.sleep(POLL_SECONDS)
        longest = self.outcome.reclaimed_seconds or 0.0
        self.outcome.reclaimed_seconds = max(longest, time.monotonic() - since)

    async def _stop_watching(self) -> None:
        if hasattr(self, "probe"):
            await self.probe.stop()
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)

    def _count_callbacks(self) -> None:
        asked = {handle.run_id for handle in self.load.handles}
        arrived = self.receiver.arrived()
        self.outcome.callbacks_missing = len(self._not_called_back())
        self.outcome.callbacks_doubled = sum(arrived[run_id] > 1 for run_id in asked)

    def _count_clients(self) -> None:
        clients = self.load.clients
        self.outcome.clients_right = clients.right
        self.outcome.clients_told = clients.told
        self.outcome.clients_wrong = len(clients.wrong)
        self.outcome.stream_gaps = clients.stream_gaps
        self.outcome.evidence += clients.wrong

    async def _count_nodes(self) -> None:
        notes = self.journal.notes()
        twice = repeated(notes, NODES)
        completed = twice.completed
        if self.outcome.durability == "async":
            ids = [handle.run_id for handle in self.load.handles]
            saved = await saved_nodes(self.postgres, ids, NODES)
            self.outcome.saving_lags = lags_of(saved, notes)
            completed = saved_twice(saved)
        self.outcome.completed_twice = len(completed)
        self.outcome.in_flight_twice = len((twice.completed | twice.in_flight) - completed)
        self.outcome.evidence += [f"run {run_id}: node {node} again" for run_id, node in completed]

    async def _count_runs(self) -> None:
        found, rows = self.outcome, await self._rows(_RUNS)
        assert rows is not None, "Postgres is away at the end of the scenario"
        found.lost = self.load.not_yet_created
        for handle in self.load.handles:
            row = rows.get(handle.run_id)
            if row is None:
                found.lost += 1
                continue
            _, status, attempt, first_error, visited, filler = row
            found.retried += attempt > 1
            if status == "success" and self.load.is_right(visited, filler):
                found.succeeded += 1
                continue
            if status in ("pending", "running"):
                found.stuck += 1
            else:
                found.errored += 1
            found.evidence.append(
                f"run {handle.run_id}: {status}, attempt {attempt}, first error {first_error},"
                f" visited {json.dumps(visited)}, {filler} characters"
            )
        threads = [handle.thread_id for handle in self.load.handles]
        ((doubled,),) = await self.postgres.ask(_DOUBLED, [threads])
        found.doubled = int(doubled)


def _make_postgres(folder: Path, setup: Setup) -> Postgres:
    if setup.patroni == "none":
        return Postgres(folder)
    return PatroniCluster(folder, synchronous=setup.patroni == "synchronous")
