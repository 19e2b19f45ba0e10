"""`/ok`: whether the process lives, which needs no database, and whether it is ready, which does.

The stock server's answer to `/ok?check_db=1` writes a stack trace into the log for each probe while Postgres
is away, and its queue's plain `/ok` asks the database too: an outage of a minute would have every queue
restarted, and none could start again before its end. So all roles answer from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, nullcontext
from socket import socket
from typing import Any, Final

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from langgraph_runtime_holdfast.availability import (
    RETRY_AFTER_SECONDS,
    explain_unavailable,
    heard,
    refusals,
)

logger = structlog.stdlib.get_logger(__name__)

# Less than the three seconds that a probe is promised.
_ANSWER_SECONDS: Final = 2.7
_NO: Final = frozenset({"", "0", "false"})

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class _Check:
    """Asks Postgres, once for all who want to know at the same time."""

    def __init__(self) -> None:
        self._asking: asyncio.Task[str | None] | None = None
        self._was_ready = True

    async def fault(self) -> str | None:
        """Why Postgres does not answer; None if it does.

        While it answers others it is not asked again: behind states of tens of megabytes, which take the
        connections, the processor and Python's lock, a question of its own could come too late. It is where
        it refuses connections: whoever has one, as the heartbeat, may go on while no call has any.
        """
        if heard.is_fresh() and refusals.reason() is None:
            return self._told(None)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(_ask())
        # A question that hangs is left to its own time limits: taking it back may wait for Postgres as well.
        await asyncio.wait({self._asking}, timeout=_ANSWER_SECONDS)
        return self._told(
            self._asking.result() if self._asking.done() else explain_unavailable(TimeoutError())
        )

    def _told(self, fault: str | None) -> str | None:
        if self._was_ready != (fault is None):
            self._was_ready = fault is None
            # Not through a thread: while Postgres hangs, they may all wait for it.
            if fault is None:
                logger.info("Ready again: Postgres answers")
            else:
                logger.warning("Not ready", reason=fault)
        return fault


async def _ask() -> str | None:
    from langgraph_runtime_holdfast.database import healthcheck

    try:
        await healthcheck()
    except Exception as error:
        return explain_unavailable(error)
    return None


_check: Final = _Check()


def wants_database(request: Request) -> bool:
    """Whether a probe asks for the database as well."""
    return request.query_params.get("check_db", "0").strip().lower() not in _NO


async def answer(request: Request) -> Response:
    """Answer `/ok`, in the stock server's form."""
    if not wants_database(request):
        return JSONResponse({"ok": True, "services": {"postgres": "skipped"}, **_paused()})
    fault = await _check.fault()
    if fault is None:
        return JSONResponse({"ok": True, "services": {"postgres": "healthy"}, **_paused()})
    return not_ready(fault)


def _paused() -> dict[str, Any]:
    """Said, and no reason to be restarted or left out: calls are answered."""
    from langgraph_runtime_holdfast import pause

    return {} if (now := pause.seen()) is None else {"paused": now.as_json()}


def not_ready(reason: str) -> Response:
    """The answer of a server that cannot do anything just now."""
    return JSONResponse(
        {"ok": False, "services": {"postgres": "unhealthy"}, "detail": reason},
        status_code=503,
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def queue_app(mount_prefix: str | None) -> App:
    """What a queue answers: `/ok` and `/metrics`, also below MOUNT_PREFIX."""
    from langgraph_runtime_holdfast.metrics import page

    routes: list[Route | Mount] = [Route("/ok", answer), Route("/metrics", page.answer)]
    if mount_prefix:
        routes.append(Mount(mount_prefix, routes=list(routes)))
    return Starlette(routes=routes)


@asynccontextmanager
async def serving(app: App, listener: socket) -> AsyncIterator[None]:
    """Answer on a port while the block lasts; the port stays the caller's, and so do the signals."""
    import uvicorn

    class _Server(uvicorn.Server):
        def capture_signals(self) -> Any:
            return nullcontext()

    own = listener.dup()
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, log_level="error", access_log=False, server_header=False
    )
    config.timeout_graceful_shutdown = 1
    server = _Server(config)
    task = asyncio.create_task(server.serve([own]))
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
        own.close()
