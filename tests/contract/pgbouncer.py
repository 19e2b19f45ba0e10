"""A real PgBouncer in transaction mode: from the PATH, else from Debian's packages, unpacked without root."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart
from langgraph_runtime_holdfast.local.unprivileged import give_away, unprivileged_prefix

TOOLS = Path(__file__).resolve().parents[2] / ".holdfast" / "tools"
UNPACKED = TOOLS / "pgbouncer"
DOWNLOAD_SECONDS = 60
CONFIGURATION = """
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = {clients}
"""


@contextlib.contextmanager
def running_pgbouncer(
    folder: Path, postgres_uri: str, *, pool_size: int, clients: int = 400
) -> Iterator[str]:
    """Run PgBouncer before a Postgres; yields its address without a database, `postgresql://…:port`.

    Args:
        folder: Where its configuration and log go.
        postgres_uri: What it connects to.
        pool_size: Server connections for each database.
        clients: How many clients it takes.
    """
    binary, libraries = find_pgbouncer()
    server = conninfo_to_dict(postgres_uri)
    port = choose_ports({"PORT": 0})["PORT"]
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        CONFIGURATION.format(
            **{name: server[name] for name in ("host", "port", "user", "password")},
            listen_port=port,
            pool_size=pool_size,
            clients=clients,
        )
    )
    give_away(configuration)

    def answers() -> bool:
        try:
            psycopg.connect(f"postgresql://any@127.0.0.1:{port}/postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    running = RunningPart(
        Part(
            name="pgbouncer",
            command=[*unprivileged_prefix([binary, folder]), str(binary), str(configuration)],
            environment={"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": libraries},
            folder=folder,
            address=f"127.0.0.1:{port}",
            is_healthy=answers,
            log=folder / "pgbouncer.log",
        )
    )
    try:
        running.wait_until_healthy()
        yield f"postgresql://any@127.0.0.1:{port}"
    finally:
        running.stop()


def find_pgbouncer() -> tuple[Path, str]:
    """The program, and the folders of its libraries as LD_LIBRARY_PATH takes them; skips the test if none."""
    if found := shutil.which("pgbouncer"):
        return Path(found), ""
    if not UNPACKED.exists():
        try:
            _unpack()
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"no pgbouncer on the PATH, and Debian's cannot be had: {error}")
    libraries = {str(path.parent) for path in UNPACKED.rglob("*.so*")}
    return UNPACKED / "usr" / "sbin" / "pgbouncer", ":".join(sorted(libraries))


def _unpack() -> None:
    """Unpack the package and its libraries, whole or not at all."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TOOLS) as name:
        folder, unpacked = Path(name), Path(name) / "unpacked"
        depends = _download(folder, "pgbouncer")
        libraries = [each for each in re.findall(r"\blib[\w.+-]+", depends) if each != "libc6"]
        _download(folder, *libraries)
        for package in folder.glob("*.deb"):
            _run(folder, "dpkg-deb", "-x", package.name, unpacked.name)
        with contextlib.suppress(FileExistsError, OSError):  # another process was quicker
            unpacked.rename(UNPACKED)


def _download(folder: Path, *packages: str) -> str:
    """Fetch packages; returns what the first depends on."""
    _run(folder, "apt-get", "download", *packages)
    first = next(folder.glob(f"{packages[0]}_*.deb"))
    return _run(folder, "dpkg-deb", "-f", first.name, "Depends")


def _run(folder: Path, *command: str) -> str:
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, timeout=DOWNLOAD_SECONDS
    )
    return ended.stdout
