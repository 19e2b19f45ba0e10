"""What an isolated loop does in its own thread, and what it gives to another one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from langgraph_runtime_holdfast.near_executor import NearExecutor


def _of(module: str) -> Callable[[], int]:
    def function() -> int:
        return threading.get_ident()

    function.__module__ = module
    return function


async def test_only_the_servers_small_functions_stay_in_the_thread() -> None:
    """A graph's own function may block, so it never does."""
    loop, here = asyncio.get_running_loop(), threading.get_ident()
    loop.set_default_executor(NearExecutor())
    assert await asyncio.to_thread(_of("langgraph_api.utils.config")) == here
    assert await asyncio.to_thread(_of("structlog.stdlib")) == here
    assert await asyncio.to_thread(_of("graphs.support.tools")) != here
    assert await loop.run_in_executor(None, _of("builtins")) != here


async def test_an_error_reaches_who_waits() -> None:
    """And it is raised there, not where the function was submitted."""

    def fail() -> None:
        raise ValueError("no")

    fail.__module__ = "structlog.stdlib"
    future = NearExecutor().submit(fail)
    assert isinstance(future.exception(), ValueError)


async def test_a_saver_that_encrypts_gets_a_thread() -> None:
    """It waits there for the loop, which would wait for it."""

    class Saver:
        waits_for_loop = True

        def dump(self) -> int:
            return threading.get_ident()

    Saver.dump.__module__ = "langgraph.checkpoint.postgres.base"
    asyncio.get_running_loop().set_default_executor(NearExecutor())
    assert await asyncio.to_thread(Saver().dump) != threading.get_ident()
