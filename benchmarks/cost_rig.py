"""What `cost` counts with: a server that answers, queues that execute, and what each has used so far."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import psutil
import psycopg
import redis

from benchmarks.processor import processor_seconds
from benchmarks.servers import place_for, running_server
from benchmarks.services import Services
from benchmarks.sides import JOBS as JOBS
from benchmarks.sides import holdfast
from benchmarks.statement_log import Statement, read_statements

_COUNTERS = """
SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_database_size(datname), xact_commit,
       active_time + idle_in_transaction_time
FROM pg_stat_database WHERE datname = current_database()
"""
_LOOKS = "SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE funcname LIKE 'claim_runs%'"


@dataclass(frozen=True)
class Used:
    """What was used so far, or between two looks; the names are those of `capacity.measured.Figures`."""

    postgres_ms: float
    api_ms: float
    queue_ms: float
    valkey_ms: float
    wal_bytes: float
    kept_bytes: float
    commits: float
    connection_ms: float
    valkey_bytes: float
    looks: float
    """Claims of all queues."""

    def since(self, before: Used) -> Used:
        """The difference."""
        return Used(*(getattr(self, each.name) - getattr(before, each.name) for each in fields(self)))


@dataclass(frozen=True)
class Rig:
    """A deployment that nobody else uses."""

    url: str
    database: psycopg.Connection[tuple[float, ...]]
    valkey: redis.Redis
    processes: dict[str, int]

    def used(self) -> Used:
        """Look at everything."""
        spent = processor_seconds(self.processes)
        wal_bytes, kept_bytes, commits, connection_ms = self.row(_COUNTERS)
        memory = self.valkey.info("memory")
        assert isinstance(memory, dict)
        return Used(
            postgres_ms=spent["postgres"] * 1000,
            api_ms=spent["api"] * 1000,
            queue_ms=spent["queue"] * 1000,
            valkey_ms=spent["valkey"] * 1000,
            wal_bytes=float(wal_bytes),
            kept_bytes=float(kept_bytes),
            commits=float(commits),
            connection_ms=float(connection_ms),
            valkey_bytes=float(memory["used_memory"]),
            looks=float(self.row(_LOOKS)[0]),
        )

    def exact_ms(self, name: str) -> float:
        """Processor of one part that does little, in steps far below the clock's 10 ms; Linux only."""
        leash = psutil.Process(self.processes[name])
        spent = 0
        for process in (leash, *leash.children(recursive=True)):
            with contextlib.suppress(OSError):
                spent += int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0])
        return spent / 1e6

    def row(self, query: str) -> tuple[float, ...]:
        """The only row of a query."""
        row = self.database.execute(query.encode()).fetchone()
        assert row is not None
        return row


@contextlib.contextmanager
def running_rig(services: Services, folder: Path, name: str) -> Iterator[Rig]:
    """Run a server for the API and a queue, on a database of their own."""
    database_uri = services.make_database(name)
    places = {
        role: place_for(f"{name}-{role}", folder, database_uri, services.valkey_uri, folder)
        for role in ("api", "queue")
    }
    with contextlib.ExitStack() as held:
        processes = {"postgres": services.postgres_process, "valkey": services.valkey_process}
        for role, place in places.items():
            processes[role] = held.enter_context(running_server(role, place, holdfast(place, role=role)))
        database = held.enter_context(psycopg.connect(database_uri, autocommit=True))
        valkey = held.enter_context(redis.Redis.from_url(services.valkey_uri))
        yield Rig(places["api"].url, database, valkey, processes)


@contextlib.contextmanager
def more_queues(services: Services, folder: Path, name: str, count: int) -> Iterator[None]:
    """Run so many queues more on the database of a rig."""
    database_uri = services.postgres_uri.rsplit("/", 1)[0] + "/" + name
    with contextlib.ExitStack() as held:
        for number in range(count):
            place = place_for(f"{name}-queue{number}", folder, database_uri, services.valkey_uri, folder)
            held.enter_context(running_server("queue", place, holdfast(place, role="queue")))
        yield


def count_well(services: Services) -> None:
    """Have Postgres count the calls of functions, and write no whole pages after a checkpoint."""
    _set(services, "track_functions = 'pl'")
    _set(services, "full_page_writes = off")


@contextlib.contextmanager
def statements_of(services: Services) -> Iterator[list[Statement]]:
    """Have all statements logged; they are in the list after the block."""
    found: list[Statement] = []
    _set(services, "log_parameter_max_length = 0")
    _set(services, "log_min_duration_statement = 0")
    offset = services.postgres_log.stat().st_size
    try:
        yield found
    finally:
        found += read_statements(services.postgres_log, offset)
        _set(services, "log_min_duration_statement = -1")


def _set(services: Services, setting: str) -> None:
    with psycopg.connect(services.postgres_uri, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET {setting}".encode())
        connection.execute("SELECT pg_reload_conf()")
