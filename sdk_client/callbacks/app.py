"""The ASGI app: three routes and a lifespan that opens the database and runs the processor."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from sdk_client.callbacks.bearer import RequireBearer
from sdk_client.callbacks.database import Database, DatabaseAwayError
from sdk_client.callbacks.events import RunHandler, load_handler
from sdk_client.callbacks.inbox import Inbox
from sdk_client.callbacks.notification import RejectedError, parse_notification, parse_uuid, read_body
from sdk_client.callbacks.processor import Processor
from sdk_client.callbacks.refusal import Refusal
from sdk_client.callbacks.settings import CallbackSettings
from sdk_client.callbacks.signature import SignatureCheck
from sdk_client.callbacks.verify import RunReader

logger = logging.getLogger(__name__)

_LIST_DEFAULT: Final = 50
_LIST_MAX: Final = 200
_RETRY_AFTER_SECONDS: Final = 1


def create_app(settings: CallbackSettings, *, on_run: RunHandler | None = None) -> Starlette:
    """Make the receiver.

    Args:
        settings: tokens, addresses and limits.
        on_run: called at least once with each verified `RunEvent`; without it the handler that
            `settings.handler` names, or one that logs.

    Raises:
        ConfigurationError: `settings.handler` cannot be used.
    """
    receiver = _Receiver(settings, on_run or load_handler(settings.handler))
    return Starlette(
        routes=[
            Route("/ok", receiver.ok),
            Mount(
                "/callbacks",
                routes=[
                    Route("/runs", receiver.store_run, methods=["POST"]),
                    Route("/runs", receiver.list_runs),
                    Route("/runs/{run_id}", receiver.show_run),
                ],
                middleware=[Middleware(RequireBearer, token=settings.webhook_token.get_secret_value())],
            ),
        ],
        lifespan=receiver.lifespan,
        exception_handlers={RejectedError: _answer_rejected, DatabaseAwayError: _answer_away},
    )


class _Receiver:
    """The routes, and what they share."""

    def __init__(self, settings: CallbackSettings, handler: RunHandler) -> None:
        self._settings = settings
        self._database = Database(
            settings.database_uri.get_secret_value(), wait_seconds=settings.database_wait_seconds
        )
        self._signature = SignatureCheck(settings.signing_secret.get_secret_value())
        self._inbox = Inbox(self._database)
        self._reader = RunReader(settings)
        self._processor = Processor(self._inbox, self._reader, handler, settings)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Open in the order of need, close in the reverse one."""
        await self._database.open()
        try:
            async with self._reader:
                self._processor.start()
                try:
                    yield
                finally:
                    await self._processor.stop()
        finally:
            await self._database.close()

    async def ok(self, _: Request) -> JSONResponse:
        """200 while the database answers and the background loops run."""
        if not self._processor.is_running:
            return JSONResponse({"ok": False, "error": "the background loop has ended"}, status_code=503)
        await self._database.ping()
        return JSONResponse({"ok": True})

    async def store_run(self, request: Request) -> JSONResponse:
        """Take a webhook; 200 only once its row is committed."""
        body = await read_body(
            request,
            max_bytes=self._settings.max_body_bytes,
            timeout_seconds=self._settings.body_timeout_seconds,
        )
        webhook_id = self._signature.check(request.headers, body)
        notification = parse_notification(body, webhook_id)
        duplicate = await self._inbox.store(notification)
        if not duplicate:
            self._processor.wake()
        logger.info(
            "received run_id=%s thread_id=%s status=%s webhook_id=%s%s",
            notification.run_id,
            notification.thread_id,
            notification.status,
            notification.webhook_id,
            " duplicate" if duplicate else "",
        )
        return JSONResponse({"duplicate": duplicate})

    async def show_run(self, request: Request) -> JSONResponse:
        """The rows of one run, one for each status that was reported."""
        run_id = parse_uuid(request.path_params["run_id"], "run_id")
        rows = await self._inbox.of_run(run_id)
        if not rows:
            return JSONResponse({"error": f"no callback of run {run_id} has arrived"}, status_code=404)
        return JSONResponse({"run_id": str(run_id), "callbacks": [_plain(row) for row in rows]})

    async def list_runs(self, request: Request) -> JSONResponse:
        """The newest rows."""
        text = request.query_params.get("limit", str(_LIST_DEFAULT))
        if re.fullmatch(r"[0-9]{1,4}", text) is None or not 1 <= int(text) <= _LIST_MAX:
            raise RejectedError(422, f"limit must be a whole number from 1 to {_LIST_MAX}")
        rows = await self._inbox.newest(int(text))
        return JSONResponse({"callbacks": [_plain(row) for row in rows]})


async def _answer_rejected(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RejectedError)
    logger.warning("rejected %s %s with %d: %s", request.method, request.url.path, error.status_code, error)
    if error.status_code in (408, 413):  # the body was not read to its end
        return Refusal(error.status_code, str(error))
    return JSONResponse({"error": str(error)}, status_code=error.status_code)


async def _answer_away(_: Request, error: Exception) -> JSONResponse:
    logger.debug("answered 503: %s", error)
    return JSONResponse(
        {"ok": False, "error": "the database is away, nothing was stored: send it again"},
        status_code=503,
        headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
    )


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in row.items()}


def _plain_value(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
