"""The Postgres and the Valkey that all sides share; each side has a database of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from langgraph_runtime_holdfast.local.postgres import EmbeddedPostgres
from langgraph_runtime_holdfast.local.valkey import EmbeddedValkey

# All sides' pools are open at once, which no deployment's would be.
MAX_CONNECTIONS = 500


@dataclass(frozen=True)
class Services:
    """Where the sides keep things, and the processes whose time is counted."""

    postgres_uri: str
    valkey_uri: str
    postgres_process: int
    """The leash of Postgres; its children are the server's processes."""
    valkey_process: int
    postgres_log: Path

    def make_database(self, name: str) -> str:
        """Make an empty database; returns its URI."""
        with psycopg.connect(self.postgres_uri, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.postgres_uri.rsplit("/", 1)[0] + "/" + name


@contextlib.contextmanager
def running_services(folder: Path) -> Iterator[Services]:
    """Run both for as long as the block lasts, with the settings they come with."""
    postgres, valkey = EmbeddedPostgres(folder / "postgres"), EmbeddedValkey(folder / "valkey")
    try:
        valkey_process = valkey.start().leash_id
        postgres.start()
        postgres.wait_until_ready()
        with psycopg.connect(postgres.uri, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER SYSTEM SET max_connections = {}").format(sql.Literal(MAX_CONNECTIONS))
            )
        postgres.stop()
        postgres_process = postgres.start().leash_id
        postgres.wait_until_ready()
        valkey.wait_until_ready()
        yield Services(
            postgres.uri,
            valkey.uri,
            postgres_process,
            valkey_process,
            postgres.folder / "postgres.log",
        )
    finally:
        postgres.stop()
        valkey.stop()
