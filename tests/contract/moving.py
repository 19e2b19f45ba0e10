"""What the tests of `holdfast import` and `holdfast export` share: sources, and the commands themselves."""

from __future__ import annotations

import asyncio
import json
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.postgres.aio import AsyncPostgresStore

from tests.contract.engines import GRAPHS, SCRIPTS, Services, environment

MANIFEST = {
    "dependencies": ["."],
    "graphs": {
        "echo": "./workers.py:echo",
        "inbox": "./pausing.py:inbox",
        "gated": "./pausing.py:gated",
        "asks_inside": "./pausing.py:asks_inside",
        "grows": "./growing.py:grows",
        "talker": "./talking.py:talker",
        "two_at_once": "./pausing.py:two_at_once",
        "failing": "./workers.py:failing",
        "slow": "./workers.py:slow",
    },
}


def project(folder: Path) -> Path:
    """A langgraph.json with few graphs, which loads quickly; the graphs are those of the servers."""
    for name in ("workers.py", "pausing.py", "growing.py", "talking.py"):
        (folder / name).write_bytes((GRAPHS / name).read_bytes())
    path = folder / "langgraph.json"
    path.write_text(json.dumps(MANIFEST))
    return path


def command(config: Path, *arguments: str) -> list[str]:
    """The command line of `holdfast import …` or `holdfast export …`."""
    return [str(SCRIPTS / "holdfast"), *arguments, "--config", str(config)]


async def holdfast(config: Path, target: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it on a target."""
    given = environment(DATABASE_URI=target) if target else environment()
    return await asyncio.to_thread(
        subprocess.run,
        command(config, *arguments),
        env=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


async def report(config: Path, target: str, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run it with --json and read what it says."""
    done = await holdfast(config, target, *arguments, "--json")
    assert done.stdout.startswith("{"), done.stderr
    assert done.returncode == code, done.stdout
    return dict(json.loads(done.stdout))


@asynccontextmanager
async def own_saver(services: Services) -> AsyncIterator[tuple[str, AsyncPostgresSaver, AsyncPostgresStore]]:
    """A database as a program keeps it that uses LangGraph's own saver and store, in one of its own."""
    uri = services.make_database(f"own_{uuid.uuid4().hex[:8]}")
    async with (
        AsyncPostgresSaver.from_conn_string(uri) as saver,
        AsyncPostgresStore.from_conn_string(uri) as store,
    ):
        await saver.setup()
        await store.setup()
        yield uri, saver, store


def counted(told: dict[str, Any], kind: str) -> tuple[int, int, int]:
    """Taken, already here and left."""
    return told[kind]["taken"], told[kind]["already"], told[kind]["left"]
