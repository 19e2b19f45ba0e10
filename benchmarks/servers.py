"""A server of any side, started in a folder of its own with the graphs in it."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from langgraph_runtime_holdfast.local.ports import HOST, choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart
from langgraph_runtime_holdfast.local.servers import QUIET

GRAPHS = Path(__file__).parent / "graphs"
START_SECONDS = 90.0
# What the machine's own environment says must not change what is measured.
PRIVATE = (
    *("LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_", "DATABASE_", "POSTGRES_", "REDIS_", "HOLDFAST_"),
    *("BG_JOB_", "N_JOBS_", "AEGRA_", "LOG_"),
)


@dataclass(frozen=True)
class Place:
    """What a server is started with."""

    folder: Path
    """Its working directory."""
    port: int
    database_uri: str
    valkey_uri: str
    peers: Path
    """Where the environments of the peers are."""

    @property
    def url(self) -> str:
        """Where the server will be found."""
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True)
class Start:
    """A server's command, and what its environment has beside what all have."""

    command: list[str]
    variables: dict[str, str]


def place_for(name: str, folder: Path, database_uri: str, valkey_uri: str, peers: Path) -> Place:
    """Make a working directory with the graphs, and choose a free port."""
    home = folder / name
    shutil.copytree(GRAPHS, home, ignore=shutil.ignore_patterns("__pycache__"))
    return Place(home, choose_ports({"PORT": 0})["PORT"], database_uri, valkey_uri, peers)


@contextlib.contextmanager
def running_server(name: str, place: Place, start: Start, health: str = "/ok") -> Iterator[int]:
    """Run a server until the block ends; yields the process that holds it, once it answers.

    Raises:
        LocalStackError: It does not start; with the end of its log.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
    running = RunningPart(
        Part(
            name,
            start.command,
            {**inherited, **QUIET, **start.variables},
            place.folder,
            address=place.url,
            is_healthy=partial(_answers, place.port, health),
            log=place.folder / "server.log",
        )
    )
    try:
        running.wait_until_healthy(START_SECONDS)
        yield running.leash_id
    finally:
        running.stop()


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
