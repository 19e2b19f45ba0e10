"""The table in an in-memory database that can reach neither files nor the network.

These functions run in a worker process (`kit.offload.in_process`): SQL comes from callers, and some of
DuckDB's functions neither stop on an interrupt nor count against its memory limit. A process can be killed.
"""

from __future__ import annotations

import resource
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import duckdb

from graphs.analytics.csvtext import clean_csv
from graphs.analytics.profile import count_rows, profile_table
from graphs.analytics.sql import run_select
from graphs.kit.problems import InputProblem, Problem

WORK_SECONDS: Final = 20.0
"""After this the database is interrupted; the process is killed a little later if that did not help."""

KILL_SECONDS: Final = 30.0
MEMORY_LIMIT: Final = "512MB"
EXTRA_ADDRESS_BYTES: Final = 1_500_000_000
MAX_ROWS: Final = 1_000_000
MAX_COLUMNS: Final = 200

Outcome = tuple[dict[str, Any] | None, Problem | None]
"""The findings, or what was wrong."""

_CLOSE: Final = (
    "SET temp_directory = ''",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET python_enable_replacements = false",  # else SQL could read variables of this process
    "SET enable_external_access = false",
    "SET lock_configuration = true",
    "BEGIN TRANSACTION READ ONLY",
)


def profile_data(content: bytes) -> Outcome:
    """Profile the columns of a CSV or Parquet file."""
    return _work(content, profile_table)


def query_data(content: bytes, sql: str) -> Outcome:
    """Answer one SELECT over the table `data`, read from a CSV or Parquet file."""
    return _work(content, lambda connection: run_select(connection, sql))


def _work(content: bytes, work: Callable[[duckdb.DuckDBPyConnection], dict[str, Any]]) -> Outcome:
    try:
        with _bounded_memory(), _open_table(content) as connection:
            return work(connection), None
    except InputProblem as problem:
        return None, problem.problem
    except duckdb.InterruptException:
        return None, Problem(
            code="sql_timeout",
            message=f"The work on the data did not finish within {WORK_SECONDS:g} s.",
            cure="Ask for less: fewer joins, fewer rows, or a simpler question.",
        )
    except (duckdb.OutOfMemoryException, MemoryError):
        return None, Problem(
            code="sql_out_of_memory",
            message="The work on the data needs more memory than it may have.",
            cure="Ask for less: aggregate, filter, or send fewer rows.",
        )


@contextmanager
def _open_table(content: bytes) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(":memory:", config={"threads": 2, "memory_limit": MEMORY_LIMIT})
    clock = threading.Timer(WORK_SECONDS, connection.interrupt)
    clock.start()
    try:
        _load(connection, content)
        for statement in _CLOSE:
            connection.execute(statement)
        yield connection
    finally:
        clock.cancel()
        connection.close()


def _load(connection: duckdb.DuckDBPyConnection, content: bytes) -> None:
    is_parquet = content.startswith(b"PAR1")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "table"
        file.write_bytes(content if is_parquet else clean_csv(content))
        reader = (
            "read_parquet($file)"
            if is_parquet
            else "read_csv($file, header = true, delim = ',', quote = '\"', escape = '\"', sample_size = -1)"
        )
        try:
            # CREATE TABLE takes no parameters; a relation does.
            connection.sql(f"SELECT * FROM {reader}", params={"file": str(file)}).create("data")  # noqa: S608
        except (duckdb.InterruptException, duckdb.OutOfMemoryException):
            raise
        except duckdb.Error as error:
            kind = "Parquet file" if is_parquet else "CSV"
            reason = str(error).replace(str(file), "the file").splitlines()[0]
            raise InputProblem(
                "invalid_parquet" if is_parquet else "csv_malformed",
                f"The {kind} cannot be read: {reason[:300]}.",
                "Write the file again and send the whole of it.",
            ) from error
    _check_size(connection)


def _check_size(connection: duckdb.DuckDBPyConnection) -> None:
    rows = count_rows(connection)
    columns = len(connection.table("data").columns)
    if rows == 0:
        raise InputProblem("no_rows", "The table has no rows.", "Send at least one row.")
    if rows > MAX_ROWS or columns > MAX_COLUMNS:
        raise InputProblem(
            "table_too_large",
            f"The table has {rows:,} rows, {columns:,} columns; the most is {MAX_ROWS:,} and {MAX_COLUMNS}.",
            "Send a part of it.",
        )


@contextmanager
def _bounded_memory() -> Iterator[None]:
    # Some scalar functions allocate outside the database's own limit. Only Linux enforces this one.
    if sys.platform != "linux":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    wanted = used + EXTRA_ADDRESS_BYTES
    hard = before[1]
    resource.setrlimit(
        resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
