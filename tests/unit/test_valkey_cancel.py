"""A task that asks Valkey ends when it is told to, also where the client loses the telling."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from langgraph_runtime_holdfast.ops.hints import attempt
from langgraph_runtime_holdfast.settings import settings
from langgraph_runtime_holdfast.valkey import ask, stop_valkey


@pytest.fixture(autouse=True)
def valkey_uri(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An address; nobody connects to it."""
    monkeypatch.setenv("REDIS_URI", "redis://127.0.0.1:1")
    settings.cache_clear()
    yield
    settings.cache_clear()


async def loses(_: Any) -> str:
    """Answer although cancelled, as Python 3.11's `wait_for` does, with which the client sends."""
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        return "sent"
    return "late"


async def fails(_: Any) -> str:
    """Fail instead, as a connection does that was closed meanwhile."""
    await loses(_)
    raise ConnectionResetError


@pytest.mark.parametrize("send", [loses, fails])
async def test_a_cancellation_that_the_client_loses_counts(send: Any) -> None:
    task = asyncio.create_task(attempt("{0}:any", lambda: ask("{0}:any", send)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stop_valkey()


async def test_a_limit_of_time_counts_too() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await ask("{0}:any", loses)
    await stop_valkey()


async def test_what_is_asked_by_one_who_ends_is_answered() -> None:
    async def ends() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return await ask("{0}:any", answers)
        return "late"

    async def answers(_: Any) -> str:
        return "answered"

    task = asyncio.create_task(ends())
    await asyncio.sleep(0.05)
    task.cancel()
    assert await task == "answered"
    await stop_valkey()
