"""The application that uvicorn serves: the stock server's, whose failure to start is told in one line."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

from starlette.requests import Request

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.health import answer, wants_database
from langgraph_runtime_holdfast.log_ids import make_request_id_readable, name_requests
from langgraph_runtime_holdfast.surface import check_surface
from langgraph_runtime_holdfast.telling import tell
from langgraph_runtime_holdfast.tracing import start_tracing, traced

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


def import_server() -> Any:
    """Import the stock server, and with it what langgraph.json names: auth, http.app, encryption.

    The environment must be made by then.

    Raises:
        EngineError: It does not fit this engine, or an import failed; one line.
    """
    check_surface()
    start_tracing()
    try:
        from langgraph_runtime_holdfast.metrics.page import replace_stock_page

        replace_stock_page()
        name_requests()
        from langgraph_api.serde import json_dumpb
        from langgraph_api.server import app
    except Exception as error:
        raise EngineError(explain(error)) from error
    # With the first value that is not JSON's own, the encoder imports numpy: now, or else in the midst of the
    # first run, whose loop would stand still meanwhile.
    json_dumpb(EngineError())
    return app


def make_app() -> Any:
    """What uvicorn calls in each of its processes.

    Raises:
        SystemExit: The server cannot be imported, with the code that tells uvicorn not to try again.
    """
    from uvicorn.config import STARTUP_FAILURE

    try:
        return traced(Application(import_server()))
    except EngineError as error:
        report(error)
        sys.exit(STARTUP_FAILURE)


class Application:
    """Passes everything on, except for the stack trace of a failed start and probes of the database."""

    def __init__(self, server: Any) -> None:
        """Wrap the stock server's application."""
        from langgraph_api import config

        self._server = server
        # Where the server's own are switched off, `/ok` says only that it has started.
        disabled = bool((config.HTTP_CONFIG or {}).get("disable_meta"))
        prefix = config.MOUNT_PREFIX or ""
        # The root is another name of `/ok`, for load balancers.
        probes = {"/ok", "/", f"{prefix}/ok", prefix, f"{prefix}/"}
        self._probes = frozenset() if disabled else frozenset(probes)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] in self._probes and wants_database(Request(scope)):
            await (await answer(Request(scope)))(scope, receive, send)
        else:
            if scope["type"] == "http":
                make_request_id_readable(scope["headers"])
            await self._server(scope, receive, send)

    async def _live(self, scope: Message, receive: Receive, send: Send) -> None:
        failed = False

        async def tell(message: Message) -> None:
            nonlocal failed
            if message["type"] == "lifespan.startup.failed":
                failed = True  # the error itself comes next
            else:
                await send(message)

        try:
            await self._server(scope, receive, tell)
        except BaseException as error:
            if not failed:
                raise
            report(error)
            await send({"type": "lifespan.startup.failed", "message": ""})


def report(error: BaseException) -> None:
    """Write one line a fault to standard error, beside the log; with LOG_JSON each is an object."""
    for line in (str(error) if isinstance(error, EngineError) else explain(error)).splitlines():
        tell(line, "error")


def explain(error: BaseException) -> str:
    """Say in one line what went wrong, and where in the code of the deployment."""
    chain = list(_causes(error))
    said: list[str] = []
    for each in chain:
        text = " ".join(str(each).split()) or type(each).__name__
        if not any(text in earlier for earlier in said):
            said.append(text if each is error and len(chain) > 1 else f"{type(each).__name__}: {text}")
    place = next((place for each in reversed(chain) if (place := _place(each))), "")
    return f"the server cannot start: {': '.join(said)}{place}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _place(error: BaseException) -> str:
    """The innermost line of the deployment's own code in the trace."""
    project = Path.cwd()
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = (project / frame.filename).resolve()
        if path.is_relative_to(project) and "site-packages" not in path.parts:
            if path.is_relative_to(Path(__file__).parent):
                continue
            return f" ({path.relative_to(project)}, line {frame.lineno})"
    return ""
