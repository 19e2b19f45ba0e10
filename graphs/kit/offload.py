"""The one way to run blocking or CPU-bound code from a node.

A blocked event loop stalls every other run, the API and the heartbeats, and in production nothing reports
it. `offload` runs the function elsewhere, a bounded number at a time, with a time limit, and ends it when the
run is cancelled:

- `in_thread` for code that waits or releases the GIL (files, DuckDB, numpy). A thread cannot be killed: past
  the limit it is abandoned, and goes on in the background until it returns, still counted against the bound.
- `in_process` for pure-Python computing and for libraries that may run away. Past the limit, or when the run
  is cancelled, the process is killed. Function, arguments and result are pickled. The worker imports the
  program's main file, so a script of yours needs its `if __name__ == "__main__":`.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.to_process
import anyio.to_thread
from anyio.lowlevel import RunVar

Args = TypeVarTuple("Args")
T = TypeVar("T")

DEFAULT_TIMEOUT_SECONDS: Final = 60.0
MAX_THREADS: Final = 16
MAX_PROCESSES: Final = max(1, os.cpu_count() or 1)

# Limiters belong to one event loop, as the loop's runs do: each loop of jobs gets its own.
_thread_limiter: RunVar[anyio.CapacityLimiter] = RunVar("holdfast_thread_limiter")
_process_limiter: RunVar[anyio.CapacityLimiter] = RunVar("holdfast_process_limiter")


class OffloadTimeoutError(Exception):
    """The computation did not finish within its limit; asking for less is the cure, not trying again."""

    def __init__(self, name: str, timeout_seconds: float) -> None:
        """Name the function and the limit in seconds."""
        super().__init__(f"{name} did not finish within {timeout_seconds:g} s")
        self.timeout_seconds = timeout_seconds


async def in_thread(
    function: Callable[[Unpack[Args]], T],
    *args: *Args,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> T:
    """Run blocking code in a worker thread.

    Raises:
        OffloadTimeoutError: The limit passed; the thread is abandoned.
    """
    with _limited(function, timeout_seconds):
        return await anyio.to_thread.run_sync(
            function, *args, abandon_on_cancel=True, limiter=_limiter(_thread_limiter, MAX_THREADS)
        )


async def in_process(
    function: Callable[[Unpack[Args]], T],
    *args: *Args,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> T:
    """Run CPU-bound code in a worker process; the function must be importable by name.

    Raises:
        OffloadTimeoutError: The limit passed; the process is killed.
    """
    with _limited(function, timeout_seconds):
        result: T = await anyio.to_process.run_sync(
            _call,
            pickle.dumps((function, args)),
            cancellable=True,
            limiter=_limiter(_process_limiter, MAX_PROCESSES),
        )
    return result


def _call(work: bytes) -> Any:
    """Call a function in a worker process, which may have no `__main__`, as some libraries (duckdb) want."""
    sys.modules.setdefault("__main__", ModuleType("__main__"))
    function, args = pickle.loads(work)  # noqa: S301 - from the process that started this one
    return function(*args)


@contextmanager
def _limited(function: Callable[..., object], timeout_seconds: float) -> Iterator[None]:
    # The limit counts the wait for a free worker too: what the run waits for is what the caller feels.
    try:
        with anyio.fail_after(timeout_seconds):
            yield
    except TimeoutError as error:
        raise OffloadTimeoutError(getattr(function, "__name__", repr(function)), timeout_seconds) from error


def _limiter(variable: RunVar[anyio.CapacityLimiter], size: int) -> anyio.CapacityLimiter:
    try:
        return variable.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(size)
        variable.set(limiter)
        return limiter
