"""The default executor of an isolated loop: does at once what is too small to be worth a thread.

The stock server encodes each event, and writes each line of its log, in another thread, so that its one loop
stays free. A job's loop is free for the job alone, and a change of threads costs it more than the work. What
a graph gives to a thread still gets one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SMALL: Final = (
    # Encodes an event.
    "langgraph_api.utils.config",
    # Writes a line of the log.
    "structlog.",
    # Encodes a checkpoint.
    "langgraph.checkpoint.postgres.",
    "langgraph_runtime_holdfast.checkpoint",
)


class NearExecutor(ThreadPoolExecutor):
    """Runs the server's own small functions in the thread of the caller, everything else in its threads."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function; see the class."""
        if not _is_small(fn):
            return super().submit(fn, *args, **kwargs)
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def _is_small(function: Any) -> bool:
    # `asyncio.to_thread` hands over `partial(context.run, function, ...)`.
    if isinstance(function, functools.partial) and function.args:
        function = function.args[0]
    # A saver that encrypts waits in its thread for the loop.
    if getattr(getattr(function, "__self__", None), "waits_for_loop", False):
        return False
    return (getattr(function, "__module__", None) or "").startswith(_SMALL)
