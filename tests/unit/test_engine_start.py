"""What may be wrong with the services an engine starts on: each is one line with cause and cure."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from langgraph_runtime_holdfast import valkey
from langgraph_runtime_holdfast.dsn import described, libpq_dsn
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.migrate import migrate
from langgraph_runtime_holdfast.settings import EngineSettings
from langgraph_runtime_holdfast.valkey_start import start_valkey
from tests.contract.engines import Services


@pytest.fixture(scope="module")
def postgres(services: Services) -> str:
    return services.postgres_uri


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute("CREATE DATABASE fresh")
        yield postgres.rsplit("/", 1)[0] + "/fresh"
        admin.execute("DROP DATABASE fresh WITH (FORCE)")


@pytest.mark.parametrize("driver", ["", "+asyncpg", "+psycopg", "+psycopg2"])
def test_addresses_as_people_have_them_connect(postgres: str, driver: str) -> None:
    host = postgres.split("@")[1].split("/")[0]
    several = postgres.replace("postgresql://", f"postgresql{driver}://").replace(host, f"127.0.0.1:1,{host}")
    dsn = libpq_dsn(f"{several}?sslmode=prefer&target_session_attrs=any")
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert conninfo_to_dict(dsn)["target_session_attrs"] == "any"
    assert conninfo_to_dict(libpq_dsn(postgres))["target_session_attrs"] == "read-write"


@pytest.mark.parametrize(
    "address",
    [
        "mysql://me:s3cret@db/x",
        "postgresql://me:s3cret@db/x?sslmod=require",
        "postgresql://me:s3cret%zz@db/x",
        "host=db password=s3cret nonsense",
        " ",
    ],
)
def test_a_wrong_address_is_told_without_its_password(address: str) -> None:
    with pytest.raises(EngineError, match="DATABASE_URI") as told:
        libpq_dsn(address)
    assert "s3cret" not in str(told.value)
    assert "s3cret" not in repr(told.value.__cause__)


def test_where_an_address_leads_is_shown_without_its_password() -> None:
    assert described(libpq_dsn("postgresql://me:s3cret@a:1,b:2/x")) == "a:1, b:2, database x"


async def test_a_postgres_without_pgvector_is_told_if_vectors_are_wanted(
    postgres: str, database: str
) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        # Who may not create the extension has none, as on a server where it is not installed.
        admin.execute("CREATE ROLE plain LOGIN PASSWORD 'plain-password'")
        admin.execute("REVOKE ALL ON DATABASE fresh FROM PUBLIC")
        admin.execute("GRANT CONNECT ON DATABASE fresh TO plain")
        admin.execute("GRANT ALL ON SCHEMA public TO plain")
    host = database.split("@")[1]
    index = {"dims": 3, "embed": lambda texts: [[0.0, 0.0, 1.0] for _ in texts]}
    with pytest.raises(EngineError, match=r"store\.index in langgraph\.json needs pgvector"):
        await migrate(f"postgresql://plain:plain-password@{host}", timeout_seconds=30, store_index=index)


@asynccontextmanager
async def redis_of_version(version: str) -> AsyncIterator[str]:
    """A server that says this version of itself, since so old a Redis cannot be installed any more."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (line := await reader.readline()).startswith(b"*"):
            words = []
            for _ in range(int(line[1:])):
                await reader.readline()
                words.append((await reader.readline()).strip().upper())
            if words[0] == b"INFO":
                text = f"# Server\r\nredis_version:{version}\r\n".encode()
                writer.write(b"$%d\r\n%s\r\n" % (len(text), text))
            else:
                # It has more to say when it has loaded its data, and counts as away until then.
                writer.write(b"-LOADING\r\n" if words[0] == b"EVAL" else b"+OK\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(("version", "accepted"), [("5.0.14", False), ("6.0.20", False), ("6.2.0", True)])
async def test_a_redis_that_is_too_old_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str, accepted: bool
) -> None:
    async with redis_of_version(version) as uri:
        values: dict[str, Any] = {"REDIS_URI": uri}
        monkeypatch.setattr(valkey, "settings", lambda: EngineSettings.model_validate(values))
        try:
            if accepted:
                await start_valkey()
                return
            with pytest.raises(EngineError, match=rf"Redis is version {version}; 6\.2 or newer"):
                await start_valkey()
        finally:
            await valkey.stop_valkey()


async def test_a_redis_that_is_away_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values: dict[str, Any] = {"REDIS_URI": f"unix://{tmp_path}/nobody.sock"}
    monkeypatch.setattr(valkey, "settings", lambda: EngineSettings.model_validate(values))
    await start_valkey()
    await valkey.stop_valkey()


def test_the_encoder_imports_nothing_once_the_server_has_been_imported() -> None:
    """An import would hold up the loop of whichever run comes first, for a second on a busy machine."""
    code = """
import sys
from langgraph_runtime_holdfast.asgi import import_server
import_server()
from langgraph_api.serde import json_dumpb
known = set(sys.modules)
json_dumpb({"error": ValueError("no")})
print(sorted(set(sys.modules) - known))
"""
    environment = {
        **os.environ,
        "LANGGRAPH_RUNTIME_EDITION": "holdfast",
        "DATABASE_URI": "postgresql://nobody@127.0.0.1/nothing",
        "REDIS_URI": "redis://127.0.0.1",
        "LANGSERVE_GRAPHS": "{}",
    }
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"
