"""`python -m sdk_client.callbacks`: the receiver under uvicorn."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import Annotated

import typer
import uvicorn
from uvicorn.config import STARTUP_FAILURE

from sdk_client.callbacks.app import create_app
from sdk_client.callbacks.database import Database, DatabaseAwayError
from sdk_client.callbacks.log import start_log
from sdk_client.callbacks.settings import load_settings
from sdk_client.errors import ConfigurationError

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 10
_MAX_CONNECTIONS = 500


def main(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 2025,
) -> None:
    """Receive the webhooks of a LangGraph server into a durable inbox."""
    start_log()
    try:
        settings = load_settings()
        listener = _bound(host, port)
        app = create_app(settings)
        # The lifespan does this too. Done here first, a failure is one line and not uvicorn's stack trace.
        database = Database(
            settings.database_uri.get_secret_value(), wait_seconds=settings.database_wait_seconds
        )
        asyncio.run(database.prepare())
    except (ConfigurationError, DatabaseAwayError) as error:
        sys.exit(f"callbacks: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    if settings.api_key is None:
        logger.warning(
            "HOLDFAST_API_KEY is not set: a server that asks for a key will not say what became of a run, "
            "whose callback stays unverified then; set it to the server's key"
        )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            access_log=False,  # the app logs each callback by its ids
            log_config=None,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        sys.exit(130)
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def _bound(host: str, port: int) -> socket.socket:
    """Take the port before anything is waited for; nobody is connected until uvicorn listens."""
    try:
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        raise ConfigurationError(
            f"port {port} of {host} cannot be had ({error.strerror}): end what has it, or give "
            "another --port or --host"
        ) from None
    return made


if __name__ == "__main__":
    typer.run(main)
