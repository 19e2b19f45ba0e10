"""Images and containers of the tests alone, in a store of their own: no daemon, no registry.

`crun` and the default limits do not work everywhere; Debian's `runc` does, also in a sandbox.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

PROJECT: Final = Path(__file__).resolve().parents[3]
NEEDED: Final = {"podman": "podman", "buildah": "buildah", "runc": "runc", "mmdebstrap": "mmdebstrap"}
LIMITS: Final = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=1000:1000")
# As in production: nobody's user, nothing writable but /tmp, no capability.
BARE: Final = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges")
HEALTH_POLL_SECONDS: Final = 0.5


def check_tools(*more: str) -> None:
    """Fail, naming the Debian packages that are missing."""
    wanted = {**NEEDED, **{name: name for name in more}}
    missing = sorted(package for program, package in wanted.items() if shutil.which(program) is None)
    if missing:
        pytest.fail(f"these Debian packages are missing: apt-get install {' '.join(missing)}")


@dataclass(frozen=True)
class Machine:
    """A place for images and containers."""

    folder: Path

    @property
    def _store(self) -> list[str]:
        return ["--root", str(self.folder / "store"), "--runroot", str(self.folder / "run")]

    @property
    def podman_options(self) -> list[str]:
        """What every call of podman is given, also one that a tool makes."""
        networks = ["--network-config-dir", str(self.folder / "networks")]
        return [*self._store, *networks, "--runtime", "runc", "--cgroup-manager", "cgroupfs"]

    @property
    def build_command(self) -> list[str]:
        """How an image is built here; the layers are kept for the next time."""
        return ["buildah", *self._store, "build", "--isolation", "chroot", "--format", "docker", "--layers"]

    def podman(self, *arguments: str | Path, check: bool = True, seconds: float = 120) -> str:
        """Run podman to its end; returns what it printed."""
        return run(["podman", *self.podman_options, *map(str, arguments)], check=check, seconds=seconds)

    def buildah(self, *arguments: str | Path) -> str:
        """Run buildah to its end; returns what it printed."""
        return run(["buildah", *self._store, *map(str, arguments)], seconds=600)

    def has_image(self, name: str) -> bool:
        """Whether an image of that name is here."""
        return bool(self.podman("images", "--quiet", "--filter", f"reference={name}").strip())

    def inspect_image(self, name: str) -> dict[str, Any]:
        """What an image says of itself."""
        described: dict[str, Any] = json.loads(self.podman("image", "inspect", name))[0]
        return described

    def start(
        self, name: str, image: str, command: Sequence[str], environment: Mapping[str, str], *options: str
    ) -> None:
        """Start a container on the machine's own network, bare of all rights."""
        self.podman("rm", "--force", "--time", "0", "--ignore", name)
        variables = [part for item in environment.items() for part in ("--env", "=".join(item))]
        self.podman(
            *("run", "--detach", "--name", name, "--network", "host", *BARE, *LIMITS),
            *(*options, *variables, image, *command),
        )

    def once(self, image: str, *command: str) -> str:
        """Run a command of an image to its end; returns what it printed."""
        program, *arguments = command
        return self.podman("run", "--rm", "--entrypoint", program, *BARE, *LIMITS, image, *arguments)

    def wait_until_healthy(self, name: str, seconds: float = 120) -> None:
        """Ask the image's own HEALTHCHECK until it says yes."""
        deadline = time.monotonic() + seconds
        while self.is_running(name):
            try:
                self.podman("healthcheck", "run", name)
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    break
                time.sleep(HEALTH_POLL_SECONDS)
            else:
                return
        pytest.fail(f"{name} is not healthy:\n{self.logs(name)}")

    def logs(self, name: str) -> str:
        """The end of what a container has said, errors as well."""
        command = ["podman", *self.podman_options, "logs", "--tail", "40", name]
        said = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
        )
        return said.stdout

    def is_running(self, name: str) -> bool:
        """Whether its process lives."""
        return self.podman("inspect", "--format", "{{.State.Running}}", name).strip() == "true"

    def exit_code(self, name: str) -> int:
        """With what it has ended; waits for it."""
        return int(self.podman("wait", name))

    def clear(self) -> None:
        """Take away what an earlier test has left running."""
        # One that others depend on goes after them.
        while self.podman("ps", "--all", "--quiet").strip():
            self.podman("rm", "--all", "--force", "--time", "0", check=False)


def run(
    command: Sequence[str],
    *,
    check: bool = True,
    seconds: float = 120,
    folder: Path = PROJECT,
    **environment: str,
) -> str:
    """Run a command to its end; returns what it printed, and its errors too if it failed."""
    ended = subprocess.run(
        list(command),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if check and ended.returncode:
        print(ended.stdout, ended.stderr)
        raise subprocess.CalledProcessError(ended.returncode, command, ended.stdout, ended.stderr)
    return ended.stdout + (ended.stderr if ended.returncode else "")
