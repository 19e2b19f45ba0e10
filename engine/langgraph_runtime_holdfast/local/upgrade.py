"""`python -m langgraph_runtime_holdfast.local.upgrade FOLDER`: an older embedded Postgres' data into today's.

Both servers run beside each other, and the one's dump is the other's restore. The old folder is kept until
somebody deletes it; whatever goes wrong before the end leaves it as it was.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from psycopg.conninfo import conninfo_to_dict

from langgraph_runtime_holdfast.local.errors import LocalStackError
from langgraph_runtime_holdfast.local.postgres import VERSION, EmbeddedPostgres, bare_environment, bin_folder


def upgrade(folder: Path) -> Path:
    """Put a data folder of today's version in the place of an older one.

    Args:
        folder: The embedded Postgres' folder, such as .holdfast/postgres.

    Returns:
        Where the old one is now.

    Raises:
        LocalStackError: There is nothing to upgrade, no server of that version, or a step failed.
    """
    folder = folder.resolve()
    try:
        version = (folder / "data" / "PG_VERSION").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise LocalStackError(f"{folder} is not an embedded Postgres' folder: {error}") from error
    if version == VERSION:
        raise LocalStackError(f"{folder} is of Postgres {VERSION} already.")
    fresh, kept = (folder.with_name(f"{folder.name}.{name}") for name in ("upgrading", version))
    if kept.exists():
        raise LocalStackError(f"{kept} exists. Move it away: the old folder is to be kept there.")
    shutil.rmtree(fresh, ignore_errors=True)  # of an upgrade that was interrupted
    with ExitStack() as held:
        old, new = EmbeddedPostgres(folder, version=version), EmbeddedPostgres(fresh)
        for server in (old, new):
            held.callback(server.stop)
            server.start()
            server.wait_until_ready()
        _copy(old, new, fresh / "dump")
    (fresh / "dump").unlink()
    folder.rename(kept)
    fresh.rename(folder)
    return kept


def _copy(old: EmbeddedPostgres, new: EmbeddedPostgres, dump: Path) -> None:
    _run(old, "pg_dump", "--format=custom", f"--file={dump}")
    _run(
        new,
        "pg_restore",
        "--exit-on-error",
        "--dbname=" + str(conninfo_to_dict(new.uri)["dbname"]),
        str(dump),
    )


def _run(server: EmbeddedPostgres, program: str, *options: str) -> None:
    parts = conninfo_to_dict(server.uri)
    # Not in the command line, which every user of the machine can read.
    names = {
        "PGHOST": "host",
        "PGPORT": "port",
        "PGUSER": "user",
        "PGPASSWORD": "password",
        "PGDATABASE": "dbname",
    }
    address = {variable: str(parts[name]) for variable, name in names.items()}
    ended = subprocess.run(  # noqa: S603 - a fixed program with our own arguments
        [str(bin_folder(VERSION) / program), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=bare_environment() | address,
        check=False,
    )
    if ended.returncode != 0:
        raise LocalStackError(f"{program} failed, and nothing was changed: {' '.join(ended.stderr.split())}")


def _command(folder: Annotated[Path, typer.Argument(help="such as .holdfast/postgres")]) -> None:
    """Carry the data of an older embedded Postgres over; the old folder is kept."""
    try:
        kept = upgrade(folder)
    except LocalStackError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    print(f"{folder} is of Postgres {VERSION} now; the old one is {kept}: delete it when all is well")


if __name__ == "__main__":
    typer.run(_command)
