"""Postgres' own programs: which are used, and how they are told where the database is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from psycopg import pq
from psycopg.conninfo import make_conninfo

from langgraph_runtime_holdfast.errors import EngineError

FOLDER: Final = "HOLDFAST_POSTGRES_PROGRAMS"
"""Names the folder to take them from, and no other."""
_DISTRIBUTIONS: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")
_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")
_SECRET: Final = b"*"
_INHERITED: Final = frozenset({"PATH", "HOME", "TMPDIR", "TZ"})
LAST_WITHOUT_TRANSACTION_TIMEOUT: Final = 16
"""Newer programs set it in each session, which servers up to this one refuse."""


@dataclass(frozen=True)
class Program:
    """One that is installed."""

    path: Path
    major: int
    """Its version: 18 of 18.1."""


def find_program(name: str, at_least: int, at_most: int | None = None) -> Program:
    """The oldest one that is new enough.

    Looks into the folder that HOLDFAST_POSTGRES_PROGRAMS names, or else along PATH, where distributions put
    them, and into the wheel of the embedded Postgres.

    Args:
        name: Such as pg_dump.
        at_least: What it must understand: pg_dump refuses servers that are newer.
        at_most: The newest that will do, if there is one.

    Raises:
        EngineError: There is none; says what was found instead.
    """
    found = sorted(_installed(name), key=lambda each: each.major)
    for program in found:
        if program.major >= at_least and (at_most is None or program.major <= at_most):
            return program
    wanted = f"{at_least} or newer" if at_most is None else f"{at_least} to {at_most}"
    there = ", ".join(f"{each.path} is {each.major}" for each in found) or "there is none"
    raise EngineError(
        f"{name} of version {wanted} is needed, and {there}. Install postgresql-client-{at_least}, or the "
        f"engine with its extra `local`, or name the folder that has it in {FOLDER}."
    )


def _installed(name: str) -> Iterator[Program]:
    for path in dict.fromkeys(_places(name)):
        if path.is_file() and (major := _major(path)) is not None:
            yield Program(path, major)


def _places(name: str) -> Iterator[Path]:
    if folder := os.environ.get(FOLDER, "").strip():
        yield Path(folder) / name
        return
    if path := shutil.which(name):
        yield Path(path)
    for pattern in _DISTRIBUTIONS:
        for folder_of_one in Path("/").glob(pattern):
            yield folder_of_one / name
    from langgraph_runtime_holdfast.local.errors import LocalStackError
    from langgraph_runtime_holdfast.local.postgres import INSTALLED, bin_folder

    for version in INSTALLED:
        try:
            yield bin_folder(version) / name
        except LocalStackError:
            continue


def _major(path: Path) -> int | None:
    try:
        said = subprocess.run(  # noqa: S603 - a program of Postgres
            [str(path), "--version"], capture_output=True, text=True, check=False, timeout=30
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(said)
    return int(match[1]) if match else None


def address(dsn: str) -> tuple[str, dict[str, str]]:
    """Where the database is, for one of the programs: what may be read by all, and the environment.

    A command line is shown to every user of the machine, an environment only to its own.

    Returns:
        The value of `--dbname`, and the environment.

    Raises:
        EngineError: It has a secret that has no environment variable.
    """
    shown: dict[str, str] = {}
    # With what libpq reads itself, as our own connections do: a password may be in PGPASSWORD or PGPASSFILE.
    environment = {
        name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("PG")
    }
    for option in pq.Conninfo.parse(dsn.encode()):
        if option.val is None:
            continue
        keyword, value = option.keyword.decode(), option.val.decode()
        if option.envvar:
            environment[option.envvar.decode()] = value
        elif option.dispchar == _SECRET:
            raise EngineError(
                f"DATABASE_URI has {keyword}, which can only be told in the open; leave it out."
            )
        else:
            shown[keyword] = value
    # pg_restore connects only if it is named.
    shown["dbname"] = environment.get("PGDATABASE", "") or environment.get("PGUSER", "")
    return make_conninfo("", **shown), environment


def run(program: Program, options: list[str], environment: dict[str, str]) -> str:
    """Run one to its end; returns what it printed.

    Raises:
        EngineError: It failed; says why.
    """
    ended = subprocess.run(  # noqa: S603 - a program of Postgres, with our own options
        [str(program.path), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if ended.returncode:
        raise EngineError(failure(program, ended.returncode, ended.stderr))
    return ended.stdout


def failure(program: Program, code: int, said: str) -> str:
    """What to say of one that failed: its last lines, which have the cause."""
    lines = [line for line in said.splitlines() if line.strip()][-4:]
    return f"{program.path.name} failed ({code}): {' '.join(' '.join(lines).split()) or 'it said nothing'}"
