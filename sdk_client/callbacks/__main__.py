"""`python -m sdk_client.callbacks`: the receiver under uvicorn."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer
import uvicorn

from sdk_client.callbacks.app import create_app
from sdk_client.callbacks.database import Database, DatabaseAwayError
from sdk_client.callbacks.log import start_log
from sdk_client.callbacks.settings import load_settings
from sdk_client.errors import ConfigurationError

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
    uvicorn.run(
        app,
        host=host,
        port=port,
        access_log=False,  # the app logs each callback by its ids
        log_config=None,
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


if __name__ == "__main__":
    typer.run(main)
