"""`python -m langgraph_runtime_holdfast.probe`: whether the container it runs in lives; for HEALTHCHECK.

One image is every role, and each answers on a port of its own, so the container's own command is asked what
runs here. What serves nothing, such as a migration, lives as long as it runs. Only the standard library: this
is started every few seconds.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

COMMAND_LINE: Final = Path("/proc/1/cmdline")
# What a command listens on without --port, by the word that names it.
DEFAULT_PORTS: Final = {"serve": 2024, "sdk_client.callbacks": 2025}
ANSWER_SECONDS: Final = 4.0


def port_of(command: Sequence[str]) -> int | None:
    """The port that a command serves on; None if it serves nothing."""
    default = next((DEFAULT_PORTS[word] for word in command if word in DEFAULT_PORTS), None)
    if default is None:
        return None
    for word, following in zip(command, [*command[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name == "--port":
            return int(value or following)
    return default


def fault_at(port: int) -> str | None:
    """Why nobody lives there; None if somebody does."""
    try:
        # The plain question, without the database: a restart of this container would not bring that back.
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ok", timeout=ANSWER_SECONDS):
            return None
    except (urllib.error.URLError, OSError) as error:
        return f"port {port}: {error}"


def main() -> int:
    """Ask, and say what is wrong; returns the exit code."""
    port = port_of(COMMAND_LINE.read_bytes().decode(errors="replace").split("\0"))
    fault = None if port is None else fault_at(port)
    if fault:
        print(fault, file=sys.stderr)
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
