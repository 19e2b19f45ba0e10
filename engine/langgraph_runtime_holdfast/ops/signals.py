"""Wake-ups and cancel signals between the processes of a deployment.

All of them travel in one feed, which every process that runs a queue follows. They are hints: a queue that
misses a wake-up polls, and a wish to cancel is also in the run's row, where the heartbeat finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import orjson
import structlog

from langgraph_runtime_holdfast import feed
from langgraph_runtime_holdfast.ops.hints import attempt
from langgraph_runtime_holdfast.ops.lease import held
from langgraph_runtime_holdfast.ops.outgoing import outgoing
from langgraph_runtime_holdfast.settings import WORKER_ID
from langgraph_runtime_holdfast.valkey import key

logger = structlog.stdlib.get_logger(__name__)

WAKE: Final = b"wake"
CANCEL: Final = b"cancel"
RUN: Final = b"run"
"""In a thread's feed: the thread has a new run, whose id is the data."""
_KEPT_SIGNALS: Final = 1_000
# For what is due later the poll is good enough.
_LONGEST_TIMER_SECONDS: Final = 600.0
_ME: Final = WORKER_ID.encode()

_bell: asyncio.Event | None = None
_bell_loop: asyncio.AbstractEventLoop | None = None


def thread_feed(thread_id: UUID | str) -> str:
    """The name of a thread's feed."""
    return key(thread_id, "thread", thread_id)


def keep_seconds() -> int:
    """How long a feed outlives its last event."""
    from langgraph_api.config import RESUMABLE_STREAM_TTL_SECONDS

    return max(60, int(RESUMABLE_STREAM_TTL_SECONDS))


def announce_run(thread_id: UUID, run_id: UUID, *, after_seconds: float, temporary: bool) -> None:
    """Tell the queues and the thread's listeners about a new run."""
    is_due = after_seconds <= 0
    if after_seconds <= _LONGEST_TIMER_SECONDS:
        wake_here(after_seconds)

    if is_due:
        _send(WAKE, _ME)
    if not temporary:
        outgoing().append(thread_feed(thread_id), RUN, str(run_id).encode(), keep_seconds=keep_seconds())


def wake_all() -> None:
    """Have every queue look for runs."""
    wake_here()
    _send(WAKE, _ME)


def wake_here(after_seconds: float = 0.0) -> None:
    """Have this process's queue look for runs, now or in a while; from any thread."""
    bell, loop = _bell, _bell_loop
    if bell is None or loop is None:
        return
    with suppress(RuntimeError):  # the loop is closed: nobody is left to wake
        if after_seconds > 0:
            loop.call_soon_threadsafe(lambda: loop.call_later(after_seconds, bell.set))
        else:
            loop.call_soon_threadsafe(bell.set)


def signal_cancel(run_ids: Iterable[UUID], action: str, reason: str | None) -> None:
    """Tell the workers of these runs to stop; "interrupt", "rollback", or "delete" for runs that are gone."""
    wanted = [str(run_id) for run_id in run_ids]
    if not wanted:
        return
    data = orjson.dumps({"run_ids": wanted, "action": action, "reason": reason})
    _stop_work(data)
    _send(CANCEL, data)


async def wait_for_wake(timeout_seconds: float) -> None:
    """Wait until somebody says that there are runs, or the time is up; wake-ups of the meantime count."""
    bell = _local_bell()
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            await bell.wait()


def begin_look() -> None:
    """Forget the wake-ups so far, because the queue looks now."""
    _local_bell().clear()


async def listen() -> None:
    """Hand on the signals of other processes; runs as long as the queue does."""
    _local_bell()
    newest = await attempt(_feed(), lambda: feed.last(_feed()))
    begin = newest.id if newest is not None else feed.BEGINNING
    async with feed.follower(_feed()).follow(_feed(), begin) as reader:
        while True:
            entry = await reader.queue.get()
            if entry.event == WAKE and entry.data != _ME:
                wake_here()
            elif entry.event == CANCEL:
                _stop_work(entry.data)


def _stop_work(data: bytes) -> None:
    wish = orjson.loads(data)
    for run_id in wish["run_ids"]:
        if (lease := held(UUID(run_id))) is None:
            continue
        if wish["action"] == "delete":
            lease.lose()
        else:
            lease.cancel(wish["action"], wish["reason"])


def _local_bell() -> asyncio.Event:
    global _bell, _bell_loop
    loop = asyncio.get_running_loop()
    if _bell is None or _bell_loop is not loop:
        _bell, _bell_loop = asyncio.Event(), loop
    return _bell


def _send(event: bytes, data: bytes) -> None:
    entry: Any = {feed.EVENT: event, feed.DATA: data}
    outgoing().send(
        _feed(),
        lambda pipe: pipe.xadd(_feed(), entry, maxlen=_KEPT_SIGNALS),
        once_as="wake" if event == WAKE else None,
    )


def _feed() -> str:
    return key("signals", "signals")
