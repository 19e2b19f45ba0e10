"""`python -m langgraph_runtime_holdfast.schema_snapshot`: write schema.sql, which the migrations make.

To read, to compare and to review: what a change to the migrations does to a database is a diff of one file.
Nothing reads it to make a database.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from psycopg.conninfo import conninfo_to_dict

FILE: Final = Path(__file__).with_name("schema.sql")
_HEAD: Final = """\
-- What the migrations make, with the libraries' tables and all functions, as pg_dump shows it. Made by
-- `python -m langgraph_runtime_holdfast.schema_snapshot`; a test compares it.
"""
# Of the dump's own session, or of one version of Postgres.
_NOISE: Final = re.compile(
    r"^(?:--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(?:un)?restrict .*"
    r"|(?:CREATE|COMMENT ON) SCHEMA .*)\n",
    re.MULTILINE,
)


def snapshot(uri: str) -> str:
    """The schema of a migrated database, as text that is the same each time.

    Raises:
        subprocess.CalledProcessError: The dump failed.
    """
    from langgraph_runtime_holdfast.local.postgres import VERSION, bare_environment, bin_folder

    to = conninfo_to_dict(uri)
    dumped = subprocess.run(  # noqa: S603 - a program of ours on a database of ours
        [
            *(
                str(bin_folder(VERSION) / "pg_dump"),
                "--schema-only",
                "--no-owner",
                "--no-privileges",
                "--schema=public",
            ),
            *(f"--host={to['host']}", f"--port={to['port']}", f"--username={to['user']}", str(to["dbname"])),
        ],
        env=bare_environment() | {"PGPASSWORD": str(to["password"])},
        capture_output=True,
        text=True,
        check=True,
    )
    bodies = re.split(r"(\$\$.*?\$\$)", dumped.stdout, flags=re.DOTALL)
    # Every second part is a function's body, whose comments are its own.
    kept = [part if number % 2 else _NOISE.sub("", part) for number, part in enumerate(bodies)]
    text = re.sub(r"\n{3,}", "\n\n", "".join(kept)).replace("public.", "").strip()
    return f"{_HEAD}\n{text}\n"


def main() -> None:
    """Migrate an empty database, and write what is in it then."""
    from langgraph_runtime_holdfast.local.postgres import embedded_postgres
    from langgraph_runtime_holdfast.migrate import migrate

    with tempfile.TemporaryDirectory() as folder, embedded_postgres(Path(folder)) as uri:
        asyncio.run(migrate(uri, timeout_seconds=60))
        FILE.write_text(snapshot(uri), encoding="utf-8")
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
