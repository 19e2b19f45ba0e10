"""What a rehearsal happens on: Postgres, Valkey, two servers behind a balancer, and what has to survive."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.deploy.rehearsal.counts import Counts
from tests.deploy.rehearsal.traffic import Traffic
from tests.deploy.rehearsal.versions import Version
from tests.faults.rig.callbacks import Receiver
from tests.faults.rig.postgres import Postgres
from tests.faults.rig.proxy import Proxy
from tests.faults.rig.server import Server, server_environment
from tests.faults.rig.setup import Role
from tests.faults.rig.valkey import Valkey

GRAPHS = Path(__file__).with_name("graphs") / "langgraph.json"
LAST_SECONDS = 150.0
CRON_SECONDS = 2
_FIRED = "SELECT count(*) FROM run WHERE thread_id = %s AND status = 'success'"
# Those of the cron are one a date, so that no two are nearer to each other than the schedule is.
_TOO_NEAR = """
SELECT count(*) FROM (
    SELECT created_at - lag(created_at) OVER (ORDER BY created_at) AS after FROM run WHERE thread_id = %s
) AS fired WHERE after < interval '1 second'
"""
# Only what was cancelled ended otherwise.
_NOT_WELL = "SELECT count(*) FROM run WHERE status NOT IN ('pending', 'success', 'interrupted')"
# As docs/upgrading.md has it.
_SERVERS_ROLE = (
    """
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'servers') THEN
            CREATE ROLE servers LOGIN PASSWORD 'servers';
        END IF;
    END $$
    """,
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO servers",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO servers",
)
_LATER = (
    "ALTER TABLE run ADD COLUMN rehearsed text",
    "ALTER TABLE run_inflight ADD COLUMN rehearsed text DEFAULT 'a'",
    "CREATE INDEX CONCURRENTLY rehearsed ON run (assistant_id)",
    "CREATE FUNCTION rehearsed_v1() RETURNS void LANGUAGE sql AS $$ SELECT $$",
    """
    INSERT INTO holdfast_schema (version, name, minimum_version)
    SELECT 9000, 'rehearsed', max(version) FROM (
        SELECT version FROM holdfast_migration UNION ALL SELECT version FROM holdfast_schema
    ) AS known
    """,
)
_UNDER_WAY = "SELECT count(*) FROM run WHERE status = 'pending'"
_DOUBLED = """
SELECT coalesce(sum(runs - 1), 0)::int FROM (
    SELECT count(*) AS runs FROM run WHERE thread_id = ANY(%s::uuid[]) GROUP BY thread_id
) AS counted
"""


class Stage:
    """Everything of one rehearsal; `set()` starts and ends it."""

    def __init__(self, folder: Path) -> None:
        """Prepare.

        Args:
            folder: For data and logs.
        """
        self.postgres = Postgres(folder / "postgres")
        self.valkey = Valkey(folder / "valkey")
        self.receiver = Receiver()
        self.counts = Counts()
        self.servers: list[Server] = []
        self.traffic: Traffic
        self._folder = folder
        self._versions: dict[Server, Version] = {}
        self._paused: list[str] = []
        self._cron_thread = ""

    @asynccontextmanager
    async def set(self) -> AsyncIterator[None]:
        """Start the services; servers come with `add_server`."""
        async with AsyncExitStack() as stack:
            stack.callback(self.receiver.close)
            stack.push_async_callback(self.postgres.stop)
            stack.push_async_callback(self.valkey.stop)
            self._folder.mkdir(parents=True, exist_ok=True)
            await asyncio.gather(self.postgres.start(), self.valkey.start())
            self._stack = stack
            yield

    async def start_servers(self, version: Version, *roles: Role) -> None:
        """Start one server for each role, and the traffic through those that answer the API."""
        for role in roles:
            server = Server(self._folder / f"server-{len(self.servers)}", self._given(), role, str(GRAPHS))
            self.servers.append(server)
            self._stack.push_async_callback(server.stop)
            self._stack.callback(self._remove, server)
            await self.start(server, version, is_awaited=False)
        await asyncio.gather(*(server.wait_until_ready() for server in self.servers))
        # Some callbacks wait for this through the first steps: what they are told by is not there yet.
        self.late = Proxy([int(self.receiver.url.rsplit(":", 1)[1].split("/")[0])])
        self._balancer = Proxy([])
        self._balance()
        for proxy in (self.late, self._balancer):
            await proxy.open()
            self._stack.push_async_callback(proxy.close)
        self.late.reset()
        self.traffic = Traffic(f"http://127.0.0.1:{self._balancer.port}", self.receiver.url, self.counts)
        self._stack.push_async_callback(self.traffic.stop)

    async def start(self, server: Server, version: Version, *, is_awaited: bool = True) -> None:
        """Start a server, of whichever version."""
        self._remove(server)
        server.program = version.serve(f"rehearsal-{server.port}")
        server.given["DATABASE_URI"] = self._uri_for(version)
        self._versions[server] = version
        await server.start()
        if is_awaited:
            await server.wait_until_ready()

    async def replace(self, server: Server, version: Version) -> None:
        """End a server in order and start another version in its place, as a rolling update does.

        Nobody is sent there from before its end until it is ready: what a readiness check and a pause before
        the end are for.
        """
        self._balance(without=server)
        await server.terminate()
        await self.start(server, version)
        self._balance()

    async def kill(self, server: Server, version: Version) -> None:
        """Kill a server and start a version in its place."""
        self._remove(server)
        with suppress(psutil.NoSuchProcess):  # where the container was it
            await server.kill()
        await self.start(server, version)

    def _uri_for(self, version: Version) -> str:
        """Who leaves migrations to somebody else may change no table."""
        uri = self.postgres.uri
        return f"postgresql://servers:servers@{uri.split('@')[1]}" if version.leaves_migrations else uri

    def _remove(self, server: Server) -> None:
        if server in self._versions:
            self._versions[server].remove(f"rehearsal-{server.port}")

    def _balance(self, without: Server | None = None) -> None:
        answering = [server for server in self.servers if server.role != "queue"]
        self._balancer.forward_to([server.port for server in answering if server is not without])

    async def migrate(self, version: Version) -> None:
        """`holdfast migrate` of a version."""
        command = version.run("rehearsal-migrate", "migrate", "--config", str(GRAPHS))
        ended = await asyncio.to_thread(
            subprocess.run,
            command,
            env=server_environment(self._given()),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        for statement in _SERVERS_ROLE:
            await self.postgres.ask(statement)

    async def expand(self) -> None:
        """What a migration of a version after this one may do, by the rules; nobody needs to know of it."""
        for statement in _LATER:
            await self.postgres.ask(statement)

    def who_serves(self) -> str:
        """The version of each server."""
        return ", ".join(
            self._versions[server].name.split(" ")[0] + ("" if server.role == "all" else f" {server.role}")
            for server in self.servers
        )

    async def leave_things_waiting(self) -> None:
        """Pauses, a cron, a run that is due later and callbacks that nobody takes yet."""
        for _ in range(4):
            self._paused.append(await self.traffic.pause())
        call = self.traffic.call
        self._cron_thread = (await call("POST", "/threads", {}))["thread_id"]
        cron = {"assistant_id": "ticks", "schedule": f"* * * * * */{CRON_SECONDS}", "input": {}}
        self._cron = (await call("POST", f"/threads/{self._cron_thread}/runs/crons", cron))["cron_id"]
        later = (await call("POST", "/threads", {}))["thread_id"]
        body = {"assistant_id": "steps", "input": {}, "after_seconds": 45}
        self._later = (
            f"/threads/{later}/runs/{(await call('POST', f'/threads/{later}/runs', body))['run_id']}"
        )
        late = self.receiver.url.replace(self.receiver.url.split("/")[2], f"127.0.0.1:{self.late.port}")
        self._late = [await self.traffic.client.submit("steps", {}, webhook=late) for _ in range(4)]
        await call("PUT", "/store/items", {"namespace": ["rehearsal"], "key": "a", "value": {"n": 1}})

    async def look_after_them(self) -> None:
        """One pause is answered, another made, the cron's runs are counted, and an item is read."""
        await self.traffic.resume(self._paused.pop(0))
        self._paused.append(await self.traffic.pause())
        ((self.counts.firings,),) = await self.postgres.ask(_FIRED, [self._cron_thread])
        item = await self.traffic.call("GET", "/store/items?namespace=rehearsal&key=a")
        assert item["value"] == {"n": 1}, item

    async def final_faults(self) -> list[str]:
        """Stop calling, wait for all that is under way, and say what is wrong with it."""
        await self.traffic.finish()
        await self.traffic.call("DELETE", f"/runs/crons/{self._cron}")
        for thread_id in self._paused:
            await self.traffic.resume(thread_id)
        wanted = {handle.run_id for handle in (*self.traffic.handles, *self._late)}
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                while (  # noqa: ASYNC110 - other processes work on it
                    await self._count(_UNDER_WAY, []) or wanted - set(self.receiver.arrived())
                ):
                    await asyncio.sleep(0.2)
        threads = [handle.thread_id for handle in self.traffic.handles]
        found: dict[str, Any] = {
            "callbacks missing": len(wanted - set(self.receiver.arrived())),
            "runs stuck": await self._count(_UNDER_WAY, []),
            "runs in error": await self._count(_NOT_WELL, []),
            "runs doubled": await self._count(_DOUBLED, [threads]),
            "dates at which the cron fired twice": await self._count(_TOO_NEAR, [self._cron_thread]),
            "delayed runs that never ran": int(
                (await self.traffic.call("GET", self._later))["status"] != "success"
            ),
        }
        return [f"{count} {what}" for what, count in found.items() if count]

    async def _count(self, statement: Any, parameters: list[Any]) -> int:
        ((count,),) = await self.postgres.ask(statement, parameters)
        return int(count)

    def _given(self) -> dict[str, str]:
        return {
            "DATABASE_URI": self.postgres.uri,
            "REDIS_URI": self.valkey.uri,
            "CRON_SCHEDULER_SLEEP_TIME": "1",
        }
