"""docker-compose.yml, unchanged, brought up by podman-compose on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.rig.machine import PROJECT, Machine

WRAPPER: Final = Path(__file__).with_name("podman_path.py")
COMPOSE: Final = str(Path(sys.executable).with_name("podman-compose"))
NAME: Final = "holdfast-test"


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

    def value(self, name: str) -> str:
        """What the `.env` says."""
        return self.values[name]

    def container(self, service: str, number: int = 1) -> str:
        """The name of a service's container."""
        return f"{NAME}_{service}_{number}"

    def containers(self) -> list[str]:
        """The names of all that are running."""
        return self.machine.podman("ps", "--format", "{{.Names}}").split()


def render(env_file: Path, *profiles: str) -> subprocess.CompletedProcess[str]:
    """Put the values of a `.env` into the file, as compose itself does it."""
    chosen = [part for profile in profiles for part in ("--profile", profile)]
    return subprocess.run(
        [COMPOSE, "-p", NAME, "--env-file", str(env_file), "-f", "docker-compose.yml", *chosen, "config"],
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
