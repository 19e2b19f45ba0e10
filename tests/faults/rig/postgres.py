"""A real Postgres that can be hurt: its sessions ended, its process crashed, left away and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.postgres import EmbeddedPostgres

_POLL_SECONDS = 0.02
_CRASH_SECONDS = 15.0
_ANSWER_SECONDS = 2
_END_ALL = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


class Postgres:
    """One Postgres, on the same port however often it is started."""

    def __init__(self, folder: Path) -> None:
        """Choose the port; nothing is started yet."""
        self.port = choose_ports({"POSTGRES_PORT": 0})["POSTGRES_PORT"]
        self.folder = folder
        self._embedded = EmbeddedPostgres(folder, self.port)

    @property
    def uri(self) -> str:
        """The database; valid once started."""
        return self._embedded.uri

    async def start(self) -> None:
        """Start it, after making its data folder the first time; returns when it answers."""
        await asyncio.to_thread(self._embedded.start)
        await asyncio.to_thread(self._embedded.wait_until_ready)

    async def stop(self) -> None:
        """Shut it down: sessions are ended, then everything is written (`pg_ctl stop -m fast`)."""
        await asyncio.to_thread(self._embedded.stop)

    async def crash(self) -> None:
        """End it without writing anything (`pg_ctl stop -m immediate`); the next start recovers."""
        process_id = int((self._embedded.data / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(process_id, signal.SIGQUIT)
        deadline = time.monotonic() + _CRASH_SECONDS
        while (self._embedded.data / "postmaster.pid").exists():
            assert time.monotonic() < deadline, "Postgres did not end"
            await asyncio.sleep(_POLL_SECONDS)
        await self.stop()  # lets go of the folder

    async def set(self, **settings: str) -> None:
        """Change settings for all sessions, from now on; those that need a restart, from then on."""
        async with await self.connect() as connection:
            for name, value in settings.items():
                change = sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
                await connection.execute(change)
            await connection.execute("SELECT pg_reload_conf()")

    async def end_all_sessions(self) -> int:
        """Terminate every backend that serves a client; returns how many there were."""
        ((count,),) = await self.ask(_END_ALL)
        return int(count)

    async def move_tables_to(self, folder: Path) -> None:
        """Keep the database's tables in this folder from now on; nobody may be connected to it."""
        name = self.uri.rsplit("/", 1)[1]
        async with await self.connect("postgres") as connection:
            place = sql.Literal(str(folder))
            await connection.execute(sql.SQL("CREATE TABLESPACE elsewhere LOCATION {}").format(place))
            await connection.execute(
                sql.SQL("ALTER DATABASE {} SET TABLESPACE elsewhere").format(sql.Identifier(name))
            )

    async def ask(self, statement: LiteralString, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own, past every proxy.

        Raises:
            psycopg.Error: Postgres is away.
        """
        async with await self.connect() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def connect(self, database: str | None = None) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        """Open a connection, past every proxy; it commits each statement by itself."""
        return await psycopg.AsyncConnection.connect(
            self.uri if database is None else f"{self.uri.rsplit('/', 1)[0]}/{database}",
            autocommit=True,
            connect_timeout=_ANSWER_SECONDS,
        )
