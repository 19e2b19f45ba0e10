#!/usr/bin/env python3
"""Podman as podman-compose is to call it: with the tests' own store, and conditions that hold.

Before 4.6 podman cannot wait for a health check, and without systemd it sets no timers for them: everything
would start at once. Here `wait` asks the containers' own health checks itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any, NoReturn

POLL_SECONDS = 0.3
ATTEMPTS = 600
# What podman-compose believes to talk to, so that it asks at all.
VERSION = "podman version 5.0.0"


def main(arguments: list[str]) -> int:
    """Pass a call on, or answer it."""
    podman = json.loads(os.environ["PODMAN_COMMAND"])
    if arguments[:1] == ["--version"]:
        print(VERSION)
        return 0
    if not (arguments[:1] == ["wait"] and arguments[1:] and arguments[1].startswith("--condition=")):
        # Conditions are enough; and 4.3 starts nothing that requires a container which has done its work.
        _become(podman, [part for part in arguments if not part.startswith("--requires=")])
    return _wait(podman, arguments[1].partition("=")[2], arguments[2:])


def _become(podman: list[str], arguments: list[str]) -> NoReturn:
    os.execvp(podman[0], [*podman, *arguments])  # noqa: S606 - the point of it


def _wait(podman: list[str], condition: str, names: list[str]) -> int:
    for name in names:
        for _ in range(ATTEMPTS):
            if _holds(podman, condition, name):
                break
            time.sleep(POLL_SECONDS)
        else:
            print(f"{name} is not {condition}", file=sys.stderr)
            return 1
    return 0


def _holds(podman: list[str], condition: str, name: str) -> bool:
    state = _state(podman, name)
    if condition == "healthy":
        return bool(state.get("Running")) and _run(podman, "healthcheck", "run", name).returncode == 0
    if condition == "running":
        return bool(state.get("Running"))
    return state.get("Status") == "exited" and state.get("ExitCode") == 0


def _state(podman: list[str], name: str) -> dict[str, Any]:
    inspected = _run(podman, "inspect", "--format", "json", name)
    found: list[dict[str, Any]] = json.loads(inspected.stdout) if inspected.returncode == 0 else []
    return found[0]["State"] if found else {}


def _run(podman: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*podman, *arguments], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
