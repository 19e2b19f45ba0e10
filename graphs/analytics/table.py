"""The caller's table in an in-memory database that can reach neither files nor the network.

This runs in a worker process: SQL comes from callers, and some of DuckDB's functions neither stop on an
interrupt nor count against its memory limit. A process can be killed.
"""

from __future__ import annotations

import csv
import io
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

import duckdb

from graphs.kit.problems import InputProblem

MAX_ROWS: Final = 1_000_000
MAX_COLUMNS: Final = 200
EXTRA_ADDRESS_BYTES: Final = 1_500_000_000
ONLY_SELECT: Final = "Send one SELECT over the table `data`; all else is closed to it."

_CONFIG: Final[dict[str, Any]] = {
    "threads": 2,
    "memory_limit": "512MB",
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # else SQL could read variables of this process
}
_CLOSE: Final = "SET TimeZone = 'UTC'; SET enable_external_access = false; SET lock_configuration = true"


@contextmanager
def open_table(content: bytes) -> Iterator[duckdb.DuckDBPyConnection]:
    """Load a CSV or Parquet file as the table `data`, close the way out, and tell faults as InputProblem."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":  # the only one that enforces this
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_ADDRESS_BYTES, limits[1]))
    loaded = False
    try:
        with duckdb.connect(":memory:", config=_CONFIG) as connection:
            _load(connection, content)
            connection.execute(_CLOSE)
            loaded = True
            yield connection
    except (duckdb.Error, MemoryError) as error:
        told = str(error).partition("\n")[0][:400] or "it needs too much memory"
        if isinstance(error, duckdb.PermissionException) or "configuration has been locked" in told:
            told = "it reaches for files or settings"  # the database would name folders of this machine
        if loaded:
            raise InputProblem("sql_refused", f"The SQL cannot be run: {told}.", ONLY_SELECT) from error
        told = re.sub(r"'?\S*/tmp\w+'?", "given", told)  # a temporary file's name tells the caller nothing
        raise _invalid_data(f"The data cannot be read: {told}.") from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _load(connection: duckdb.DuckDBPyConnection, content: bytes) -> None:
    is_parquet = content.startswith(b"PAR1")
    reader = "read_parquet($1)" if is_parquet else "read_csv($1, header=true, delim=',', sample_size=-1)"
    with NamedTemporaryFile() as file:
        file.write(content if is_parquet else _clean_csv(content))
        file.flush()
        # CREATE TABLE takes no parameters; a relation does.
        connection.sql(f"FROM {reader}", params=[file.name]).create("data")
    rows, columns = connection.table("data").shape
    if not 0 < rows <= MAX_ROWS or columns > MAX_COLUMNS:
        raise _invalid_data(f"The table has {rows:,} rows and {columns:,} columns.")


def _clean_csv(content: bytes) -> bytes:
    """Check CSV text, so that a mistake is named with its line, and write it with commas, no blank lines."""
    text = content.decode("utf-8-sig", errors="surrogateescape")
    if not_text := re.search("[\0\udc80-\udcff]", text):
        raise _invalid_data(
            f"Line {text.count(chr(10), 0, not_text.start()) + 1} of the CSV is not UTF-8 text."
        )
    delimiter = max(",;\t|", key=text.lstrip().partition("\n")[0].count)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise _invalid_data(f"Line {reader.line_num} of the CSV cannot be read: {error}.") from error
    header = rows[0][1] if rows else []
    # SQL does not tell names apart by case. A header of numbers would be a row that is lost.
    distinct = len({name.strip().lower() for name in header} - {""}) == len(header)
    if not distinct or all(name.replace(".", "").isdigit() for name in header):
        raise _invalid_data(f"The header needs a different name for each column, not {header}."[:400])
    for line, row in rows:
        if len(row) != len(header):
            raise _invalid_data(
                f"Line {line} of the CSV has {len(row)} fields; the header has {len(header)}."
            )
    clean = io.StringIO(newline="")
    csv.writer(clean).writerows(row for _, row in rows)
    return clean.getvalue().encode()


def _invalid_data(what: str) -> InputProblem:
    cure = "Send Parquet, or UTF-8 CSV with a header, equally many fields in each line, and quotes closed"
    return InputProblem(
        "invalid_data", what, f"{cure}; 1 to {MAX_ROWS:,} rows, {MAX_COLUMNS} columns at most."
    )
