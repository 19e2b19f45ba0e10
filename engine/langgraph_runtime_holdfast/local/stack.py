"""The stack: Postgres, Valkey, the server and the callback receiver, started together and ended together."""

import importlib.util
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from langgraph_runtime_holdfast.local.errors import LocalStackError
from langgraph_runtime_holdfast.local.folders import FolderLock, make_server_folder
from langgraph_runtime_holdfast.local.ports import HOST, choose_ports
from langgraph_runtime_holdfast.local.postgres import EmbeddedPostgres
from langgraph_runtime_holdfast.local.processes import Part, RunningPart, answers_ok
from langgraph_runtime_holdfast.local.settings import SIGNING_SECRET, LocalSettings
from langgraph_runtime_holdfast.local.valkey import EmbeddedValkey
from langgraph_runtime_holdfast.outbox.signing import OFF

# Run as a command: the engine imports none of the packages it serves.
RECEIVER = (sys.executable, "-m", "sdk_client.callbacks")

Report = Callable[[str, str, float], None]
"""Called as each part comes up: its name, its address, the seconds it took."""


def _report_nothing(name: str, address: str, seconds: float) -> None:
    """For those who do not watch."""


class LocalStack:
    """A running stack, as a context manager. `environment` points a client at it."""

    def __init__(
        self,
        settings: LocalSettings,
        receiver: Sequence[str] = RECEIVER,
        report: Report = _report_nothing,
    ) -> None:
        """Describe a stack; nothing is started yet.

        Args:
            settings: where and with what.
            receiver: the callback receiver's command; `--host` and `--port` are added.
            report: told of each part as it comes up.
        """
        self.settings = settings
        self.environment: dict[str, str] = {}
        self.parts: list[RunningPart] = []
        self.notes: list[str] = []
        """What people should know of the start, a line each."""
        self._receiver = receiver
        self._report = report
        self._held = ExitStack()
        self._locks: list[int] = []

    @property
    def url(self) -> str:
        """The server's address."""
        return self.environment["HOLDFAST_URL"]

    def __enter__(self) -> Self:
        """Start every part and wait until all are healthy.

        Raises:
            LocalStackError: a part cannot start; by then all the others have ended again.
        """
        try:
            self._start()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every part: the server first, so that its last callbacks still find the receiver."""
        self._held.close()

    def check_alive(self) -> None:
        """Raise LocalStackError if a part has ended by itself."""
        for part in self.parts:
            part.check_alive()

    def start_workload(self, command: Sequence[str]) -> RunningPart:
        """Start a client of the stack in the caller's working directory, its output being ours."""
        return self._run(
            Part(
                name=command[0],
                command=command,
                environment=self.environment,
                folder=Path.cwd(),
                stop_signal=signal.SIGINT,  # what a program run by hand knows as the wish to end
            )
        )

    def _start(self) -> None:
        settings = self.settings
        settings.engine.check_installed()
        if self._receiver is RECEIVER and importlib.util.find_spec("sdk_client") is None:
            raise LocalStackError(
                "the callback receiver comes with holdfast-client, which is not installed. Install it beside "
                "the engine; or start the server alone: python -m langgraph_runtime_holdfast serve."
            )
        self._locks.append(self._held.enter_context(FolderLock(settings.home)).fileno)
        wanted = {name: settings.ports[name] for name in ("HOLDFAST_PORT", "CALLBACKS_PORT")}
        ports = choose_ports(wanted, settings.default_ports)
        for name, port in wanted.items():
            if port and port != ports[name]:
                self.notes.append(f"port {port} is taken: {name} is {ports[name]}")
        (settings.home / "logs").mkdir(exist_ok=True)

        # What is closed last is entered first.
        postgres = EmbeddedPostgres(settings.home / "postgres", settings.ports["HOLDFAST_POSTGRES_PORT"])
        self._held.callback(postgres.stop)
        self.parts.append(postgres.start())
        self.environment = self._make_environment(ports, postgres.uri)
        if settings.engine.needs_services:
            services = {"DATABASE_URI": postgres.uri, "REDIS_URI": self._start_valkey()}
            self._report("postgres", postgres.address, postgres.wait_until_ready())
            server = self._run(self._server(ports["HOLDFAST_PORT"], services))
        else:
            # It comes up while Postgres does, which only the receiver needs.
            server = self._run(self._server(ports["HOLDFAST_PORT"], {}))
            self._report("postgres", postgres.address, postgres.wait_until_ready())
        receiver = self._run(self._receiver_part(ports["CALLBACKS_PORT"]))
        self.parts += [receiver, server]
        self._held.callback(server.stop)  # before the receiver; a second stop does nothing
        for part in (receiver, server):
            self._report(part.part.name, part.part.address, part.wait_until_healthy())

    def _start_valkey(self) -> str:
        valkey = EmbeddedValkey(self.settings.home / "valkey")
        self._held.callback(valkey.stop)
        self.parts.append(valkey.start())
        self._report("valkey", valkey.address, valkey.wait_until_ready())
        return valkey.uri

    def _run(self, part: Part) -> RunningPart:
        running = RunningPart(part, held_files=self._locks)
        self._held.callback(running.stop)
        return running

    def _make_environment(self, ports: dict[str, int], database_uri: str) -> dict[str, str]:
        return {
            **self.settings.engine.environment,
            **self.settings.environment,
            **self.settings.read_or_make_secrets(),
            **({} if self.settings.engine.signs_callbacks else {SIGNING_SECRET: OFF}),
            "HOLDFAST_ENGINE": self.settings.engine.name,
            "HOLDFAST_URL": f"http://{HOST}:{ports['HOLDFAST_PORT']}",
            "CALLBACKS_URL": f"http://{HOST}:{ports['CALLBACKS_PORT']}",
            "CALLBACKS_DATABASE_URI": database_uri,
        }

    def _server(self, port: int, services: Mapping[str, str]) -> Part:
        settings = self.settings
        # An engine with services keeps nothing in its working directory.
        separate = not settings.engine.needs_services
        folder = make_server_folder(settings.project, settings.home) if separate else settings.project
        return Part(
            name=f"server ({settings.engine.name})",
            command=settings.engine.command(folder / settings.config.name, port),
            environment={**self.environment, **services},
            folder=folder,
            address=self.environment["HOLDFAST_URL"],
            is_healthy=partial(answers_ok, port),
            log=settings.home / "logs" / "server.log",
            grace_seconds=settings.engine.grace_seconds,
        )

    def _receiver_part(self, port: int) -> Part:
        return Part(
            name="receiver",
            command=[*self._receiver, "--host", HOST, "--port", str(port)],
            environment=self.environment,
            folder=self.settings.project,
            address=self.environment["CALLBACKS_URL"],
            is_healthy=partial(answers_ok, port),
            log=self.settings.home / "logs" / "receiver.log",
        )
