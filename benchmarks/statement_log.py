"""What Postgres itself says about each statement: its text and its time, from its log.

The log and not pg_stat_statements, which the embedded Postgres does not carry.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

_RECORD = re.compile(r"^(\S+ \S+) \S+ \[(\d+)\] (\w+):  ", re.MULTILINE)
_DURATION = re.compile(r"duration: ([\d.]+) ms  (?:(parse|bind|execute) [^:]*|(statement)): (.*)", re.DOTALL)


@dataclass(frozen=True)
class Statement:
    """One execution of one statement."""

    text: str
    """On one line, with $1 in place of values."""
    seconds: float
    """Parsing, planning and executing; not the way there and back."""


@contextlib.contextmanager
def logged_statements(postgres_uri: str, database: str) -> Iterator[None]:
    """Have every statement of a database logged; sessions that begin before or after are left alone."""
    name = sql.Identifier(database)
    with psycopg.connect(postgres_uri, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} SET log_min_duration_statement = 0").format(name))
        # A value of a megabyte would be written out in full.
        connection.execute(sql.SQL("ALTER DATABASE {} SET log_parameter_max_length = 0").format(name))
        try:
            yield
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))


def read_statements(log: Path, offset: int = 0) -> list[Statement]:
    """Read what was logged, in the order of the ends of the statements.

    Args:
        log: Postgres' log.
        offset: Where to begin, in bytes.
    """
    with log.open("rb") as file:
        file.seek(offset)
        text = file.read().decode(errors="replace")
    statements: list[Statement] = []
    prepared: dict[str, float] = {}
    for _, process, level, message in _records(text):
        if level != "LOG" or not (found := _DURATION.match(message)):
            continue
        milliseconds, step, _, said = found.groups()
        # Parse and bind are lines of their own, before the execution that they belong to.
        prepared[process] = prepared.get(process, 0.0) + float(milliseconds) / 1000
        if step not in ("parse", "bind"):
            statements.append(Statement(" ".join(said.split()), prepared.pop(process)))
    return statements


def _records(text: str) -> Iterator[tuple[str, str, str, str]]:
    heads = list(_RECORD.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    for head, end in zip(heads, ends, strict=True):
        yield *head.groups(), text[head.end() : end]  # type: ignore[misc]
