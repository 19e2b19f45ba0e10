"""A part of the stack: a command on a leash, its log file, and the wait until it is healthy."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from langgraph_runtime_holdfast.local import leash
from langgraph_runtime_holdfast.local.endings import pause
from langgraph_runtime_holdfast.local.errors import LocalStackError

POLL_SECONDS = 0.05
REPORTED_LOG_LINES = 15
# What the leash needs after the grace is over to kill, reap and go.
LEASH_MARGIN_SECONDS = 3.0


@dataclass(frozen=True)
class Part:
    """What to run and how to tell that it works."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    """Its working directory."""
    address: str = ""
    """Where people and programs find it; for display."""
    is_healthy: Callable[[], bool] = lambda: True
    log: Path | None = None
    """Where its output goes; None is the owner's own output."""
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 5.0
    """How long it may take to end before it is killed."""


class RunningPart:
    """A started part. It ends with `stop()`, or when this process ends, however that happens."""

    def __init__(self, part: Part, held_files: Sequence[int] = ()) -> None:
        """Start a part.

        Args:
            part: what to run.
            held_files: file descriptors its leash keeps open until the part has ended, such as a lock.
        """
        self.part = part
        self.started_at = time.monotonic()
        if part.log is not None and part.log.exists():
            part.log.replace(part.log.with_suffix(".previous.log"))
        output = None if part.log is None else part.log.open("wb")
        try:
            self._leash = subprocess.Popen(  # noqa: S603 - the command is ours or the caller's own
                [
                    *(sys.executable, "-I", leash.__file__),
                    *("--signal", part.stop_signal.name, "--grace-seconds", str(part.grace_seconds)),
                    *("--", *part.command),
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                cwd=part.folder,
                env=dict(part.environment),
                pass_fds=held_files,
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()

    @property
    def leash_id(self) -> int:
        """The process id of the leash."""
        return self._leash.pid

    @property
    def exit_code(self) -> int | None:
        """The command's exit code, or None while it runs."""
        return self._leash.poll()

    def wait(self) -> int:
        """Wait until the command ends by itself; returns its exit code."""
        return self._leash.wait()

    def wait_until_healthy(self, timeout_seconds: float = 60.0) -> float:
        """Wait until the part answers; returns the seconds since it was started.

        Raises:
            LocalStackError: it ended, or did not answer in time; with the end of its log.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            self.check_alive()
            if self.part.is_healthy():
                return time.monotonic() - self.started_at
            if time.monotonic() > deadline:
                raise LocalStackError(
                    f"{self.part.name} did not answer at {self.part.address} within {timeout_seconds:.0f} s."
                    + self._end_of_log()
                )
            pause(POLL_SECONDS)

    def check_alive(self) -> None:
        """Raise LocalStackError with the end of its log if the part has ended."""
        code = self.exit_code
        if code is not None:
            raise LocalStackError(f"{self.part.name} ended with exit code {code}." + self._end_of_log())

    def stop(self) -> int:
        """End the part and all it started; returns the command's exit code. May be called twice."""
        assert self._leash.stdin is not None
        self._leash.stdin.close()
        try:
            return self._leash.wait(self.part.grace_seconds + LEASH_MARGIN_SECONDS)
        except subprocess.TimeoutExpired:
            # The leash is stuck (a stopped process, say). Its command's group outlives it only off Linux.
            os.kill(self._leash.pid, signal.SIGKILL)
            return self._leash.wait()

    def _end_of_log(self) -> str:
        if self.part.log is None:
            return ""
        with self.part.log.open(encoding="utf-8", errors="replace") as lines:
            end = "".join(f"\n  {line.rstrip()}" for line in deque(lines, maxlen=REPORTED_LOG_LINES))
        return f" The end of {self.part.log}:{end}" if end else f" Its log {self.part.log} is empty."


def answers_ok(port: int, timeout_seconds: float = 2.0) -> bool:
    """Whether GET /ok on this machine's port is answered with 200."""
    # Not a client that reads HTTP_PROXY from the environment: this never leaves the machine.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    try:
        connection.request("GET", "/ok")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
