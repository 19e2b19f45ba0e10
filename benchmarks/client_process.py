"""The client process, seen from the benchmark: one for a whole run, a load at a time."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator

from pydantic import TypeAdapter

from benchmarks.load import CLOSED, OPEN
from benchmarks.measurement import Load, Seen


class ClientProcess:
    """Makes loads in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Take a started `benchmarks.load`."""
        self._process = process

    @property
    def process_id(self) -> int:
        """Its process."""
        return self._process.pid

    def make(self, load: Load, at_edges: Callable[[], None]) -> Seen:
        """Make a load.

        Args:
            load: What to do.
            at_edges: Called when measuring begins and when it ends.

        Returns:
            What the clients saw.

        Raises:
            RuntimeError: The process has ended; its error is on standard error.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(TypeAdapter(Load).dump_json(load).decode() + "\n")
        self._process.stdin.flush()
        for expected in (OPEN, CLOSED):
            if (line := self._read()) != expected:
                raise RuntimeError(f"the client process says {line!r} instead of {expected!r}")
            at_edges()
        return TypeAdapter(Seen).validate_json(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the client process ended with exit code {self._process.wait()}")
        return line.rstrip("\n")


@contextlib.contextmanager
def client_process() -> Iterator[ClientProcess]:
    """Run one for as long as the block lasts; it ends when its input does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield ClientProcess(process)
