"""docker-compose.yml, unchanged, brought up by podman-compose on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.rig.machine import PROJECT, Machine

WRAPPER: Final = Path(__file__).with_name("podman_path.py")
COMPOSE: Final = str(Path(sys.executable).with_name("podman-compose"))
NAME: Final = "holdfast-test"
# With what a test may have added.
MONITORED: Final = ("--profile", "monitoring")


@dataclass(frozen=True)
class Composed:
    """One set of values for the file, and the containers that it makes."""

    machine: Machine
    env_file: Path
    values: Mapping[str, str]

    @classmethod
    def write(cls, machine: Machine, folder: Path, values: Mapping[str, str]) -> Composed:
        """Write a `.env` of these values."""
        env_file = folder / "compose.env"
        env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        return cls(machine, env_file, values)

    def run(self, *arguments: str, seconds: float = 600, check: bool = True) -> str:
        """Run podman-compose; returns what it printed."""
        options = [
            "--in-pod",
            "false",
            "--podman-path",
            str(WRAPPER),
            "--podman-run-args=--ulimit nproc=1000:1000",
        ]
        command = [
            COMPOSE,
            "-p",
            NAME,
            "--env-file",
            str(self.env_file),
            "-f",
            "docker-compose.yml",
            *options,
        ]
        podman = ["podman", *self.machine.podman_options]
        ended = subprocess.run(
            [*command, *arguments],
            cwd=PROJECT,
            env={**_without_ours(os.environ), "PODMAN_COMMAND": json.dumps(podman)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert ended.returncode == 0 or not check, f"{arguments}:\n{ended.stdout[-6000:]}"
        return ended.stdout

    @property
    def url(self) -> str:
        """The proxy."""
        return f"https://localhost:{self.values['HOLDFAST_PUBLISHED_PORT']}"

    @property
    def callbacks_url(self) -> str:
        """Where callers read the inbox: the proxy as well."""
        return self.url

    @property
    def webhook(self) -> str:
        """Where servers deliver callbacks."""
        return "http://callbacks:2025/callbacks/runs"

    @property
    def authority(self) -> Path | None:
        """The certificate of the proxy's own authority, as docs/deploy.md fetches it."""
        path = self.env_file.with_name("root.crt")
        if not path.exists():
            inside = "/data/caddy/pki/authorities/local/root.crt"
            self.machine.podman("cp", f"{self.container('proxy')}:{inside}", path)
        return path

    @contextmanager
    def running(self) -> Iterator[Composed]:
        """Bring all of it up, and down at last."""
        self.machine.clear()
        self.run(*MONITORED, "down", "--volumes", check=False)
        try:
            self.run("up", "--detach")
            for name in ("proxy", "queue", "callbacks"):
                self.machine.wait_until_healthy(self.container(name))
            yield self
        finally:
            self.run(*MONITORED, "down", "--volumes", check=False)

    def container(self, service: str, number: int = 1) -> str:
        """The name of a service's container."""
        return f"{NAME}_{service}_{number}"

    def names(self) -> list[str]:
        """The services that run, each as often as it does."""
        running = self.machine.podman("ps", "--format", "{{.Names}}").split()
        return sorted(name.split("_")[1] for name in running)

    def kill_a_queue(self) -> None:
        """End the first process of one, by its number, as the kernel does when memory is short."""
        process = self.machine.podman("inspect", "--format", "{{.State.Pid}}", self.container("queue"))
        os.kill(int(process), signal.SIGKILL)

    def expect_it_back(self) -> None:
        """The policy `unless-stopped` starts it again."""
        self.machine.wait_until_healthy(self.container("queue"))

    def stop(self) -> dict[str, int]:
        """End all within their graces; returns the exit codes, 137 for a kill."""
        names = self.machine.podman("ps", "--format", "{{.Names}}").split()
        self.run(*MONITORED, "stop")
        codes = {name: self.machine.exit_code(name) for name in names}
        self.run(*MONITORED, "down")
        return codes


def render(env_file: Path, *profiles: str) -> subprocess.CompletedProcess[str]:
    """Put the values of a `.env` into the file, as compose itself does it."""
    chosen = [part for profile in profiles for part in ("--profile", profile)]
    # Dry, since otherwise it asks for podman, which rendering does not need.
    options = ["--dry-run", "-p", NAME, "--env-file", str(env_file), "-f", "docker-compose.yml"]
    return subprocess.run(
        [COMPOSE, *options, *chosen, "config"],
        cwd=PROJECT,
        env=_without_ours(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )


def rendered(env_file: Path, *profiles: str) -> dict[str, Any]:
    """The file with the values of a `.env` in it."""
    ended = render(env_file, *profiles)
    assert ended.returncode == 0, ended.stderr
    loaded: dict[str, Any] = yaml.safe_load(ended.stdout)
    return loaded


def _without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    # What is set here would win over the file's values.
    ours = ("HOLDFAST_", "CALLBACKS_", "LANG", "LG_", "MODEL", "OTEL_", "REDIS_", "POSTGRES_", "DATABASE_")
    return {name: value for name, value in environment.items() if not name.startswith(ours) or name == "LANG"}
