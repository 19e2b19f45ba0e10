"""docker-compose.yml without containers: what its services run and are told, as processes of this machine.

For machines without podman. No proxy, limits or networks: commands, variables and graces are the file's own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.postgres import EmbeddedPostgres
from langgraph_runtime_holdfast.local.valkey import EmbeddedValkey
from tests.deploy.rig.composed import rendered
from tests.deploy.rig.machine import PROJECT

SERVERS: Final = ("api", "queue", "callbacks")
START_SECONDS: Final = 120.0
PROGRAMS: Final = Path(sys.executable).parent
# What every process needs of the machine; all else comes from the file.
INHERITED: Final = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "TMPDIR")


class Processes:
    """The services as processes, while `running` lasts."""

    authority: Path | None = None
    """Nobody's certificate: there is no proxy."""

    def __init__(self, folder: Path, values: Mapping[str, str]) -> None:
        """Name the folder for logs, and what `.env` says."""
        self._folder = folder
        self._given = values
        self.values: dict[str, str] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[list[str], dict[str, str]]] = {}
        self._ports: dict[str, int] = {}
        self._services: dict[str, Any] = {}

    @property
    def url(self) -> str:
        """One of the servers."""
        return f"http://127.0.0.1:{self._ports['api_1']}"

    @property
    def callbacks_url(self) -> str:
        """Where callers read the inbox."""
        return f"http://127.0.0.1:{self._ports['callbacks_1']}"

    @property
    def webhook(self) -> str:
        """Where servers deliver callbacks."""
        return f"{self.callbacks_url}/callbacks/runs"

    @contextmanager
    def running(self) -> Iterator[Processes]:
        """Start all of it, in the order of the file's conditions; end it at last."""
        postgres, valkey = (
            EmbeddedPostgres(self._folder / "postgres"),
            EmbeddedValkey(self._folder / "valkey"),
        )
        try:
            for service in (postgres, valkey):
                service.start()
                service.wait_until_ready()
            password = postgres.uri.split(":")[2].partition("@")[0]
            key = valkey.uri.split(":")[2].partition("@")[0]
            self.values = {**self._given, "POSTGRES_PASSWORD": password, "VALKEY_PASSWORD": key}
            env_file = self._folder / "compose.env"
            env_file.write_text("".join(f"{name}={value}\n" for name, value in self.values.items()))
            self._services = rendered(env_file)["services"]
            self._prepare({"@postgres:5432": f"@{postgres.address}", "@valkey:6379": f"@{valkey.address}"})
            self._start("migrate_1")
            assert self._running.pop("migrate_1").wait(START_SECONDS) == 0, self.log("migrate_1")
            for name in self._ports:
                self._start(name)
            for name in self._ports:
                self._wait_until_healthy(name)
            yield self
        finally:
            for process in self._running.values():
                process.kill()
                process.wait()
            valkey.stop()
            postgres.stop()

    def _prepare(self, places: dict[str, str]) -> None:
        counts = {name: int(self._services[name]["deploy"].get("replicas", 1)) for name in SERVERS}
        names = [f"{name}_{number + 1}" for name, count in counts.items() for number in range(count)]
        self._ports = choose_ports(dict.fromkeys(names, 0))
        places["http://api:8000"] = self.url
        places['["callbacks"]'] = '["127.0.0.1"]'
        for name in ["migrate_1", *names]:
            service = self._services[name.partition("_")[0]]
            program, *arguments = service["command"]
            if "--port" in arguments:
                arguments[arguments.index("--port") + 1] = str(self._ports[name])
                arguments[arguments.index("--host") + 1] = "127.0.0.1"
            variables = {name: value for name in INHERITED if (value := os.environ.get(name))}
            for variable, value in service["environment"].items():
                text = self.values.get(variable) if value is None else value
                for there, here in places.items():
                    text = text and text.replace(there, here)
                if text is not None:
                    variables[variable] = text
            self._commands[name] = ([str(PROGRAMS / program), *arguments], variables)

    def _start(self, name: str) -> None:
        command, variables = self._commands[name]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, cwd=PROJECT, env=variables, stdout=log, stderr=subprocess.STDOUT
            )

    def log(self, name: str) -> str:
        """The end of what a process has said."""
        return (self._folder / f"{name}.log").read_text()[-3000:]

    def _wait_until_healthy(self, name: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._running[name].poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{self._ports[name]}/ok", trust_env=False).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"{name} is not healthy:\n{self.log(name)}")

    def names(self) -> list[str]:
        """The services that run, each as often as it does."""
        return sorted(name.partition("_")[0] for name in self._running)

    def kill_a_queue(self) -> None:
        """End one as the kernel does when memory is short."""
        self._running["queue_1"].kill()
        self._running["queue_1"].wait()

    def expect_it_back(self) -> None:
        """Do what the restart policy does."""
        self._start("queue_1")
        self._wait_until_healthy("queue_1")

    def stop(self) -> dict[str, int]:
        """End all with SIGTERM within their graces; returns the exit codes, 137 for a kill."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        codes = {}
        for name, process in self._running.items():
            grace = int(self._services[name.partition("_")[0]]["stop_grace_period"].removesuffix("s"))
            code = process.wait(grace)
            codes[name] = 128 - code if code < 0 else code
        self._running.clear()
        return codes
