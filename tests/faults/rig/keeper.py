"""Keeps a program whose children outlive it, as Patroni's Postgres does: all of them end with this process.

It adopts what the program leaves behind, ends when nothing of it is left, and ends all of it when it is told
to (SIGTERM) or its own parent dies: also what was stopped (SIGSTOP). Run by its path, with a command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

import psutil

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_QUIT_SECONDS = 5.0
_POLL_SECONDS = 0.02


def main(command: list[str]) -> None:
    """Run a command, and wait until it and all that it began have ended."""
    parent = os.getppid()
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, _leave)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before that call
        return
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        while True:
            os.wait()  # also for those whom this process has adopted
    except ChildProcessError:
        return
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_all(program.pid)


def _leave(*_: object) -> NoReturn:
    raise SystemExit(0)


def _end_all(program_id: int) -> None:
    # First who would start the others again.
    with suppress(ProcessLookupError):
        os.kill(program_id, signal.SIGKILL)
    deadline = time.monotonic() + _QUIT_SECONDS
    while left := _running_children():
        for process in left:
            with suppress(psutil.NoSuchProcess):
                if time.monotonic() > deadline:
                    process.kill()
                elif process.name() == "postgres":
                    # Gives its shared memory back, which it cannot when it is killed.
                    process.send_signal(signal.SIGQUIT)
                    process.resume()
                else:
                    process.kill()
        time.sleep(_POLL_SECONDS)


def _running_children() -> list[Any]:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    with suppress(psutil.NoSuchProcess):
        return list(psutil.Process().children(recursive=True))
    return []


if __name__ == "__main__":
    main(sys.argv[1:])
