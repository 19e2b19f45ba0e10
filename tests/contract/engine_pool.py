"""The engine's modules in the test's own process and loop, on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from langgraph_runtime_holdfast.database import Handle, close_pool, connect
from langgraph_runtime_holdfast.migrate import migrate
from langgraph_runtime_holdfast.settings import settings


@asynccontextmanager
async def engine_pool(
    database_uri: str, monkeypatch: pytest.MonkeyPatch, store: dict[str, Any] | None = None
) -> AsyncIterator[Handle]:
    """Migrate the database and open this loop's pool, with this `store` part of a langgraph.json."""
    monkeypatch.setenv("DATABASE_URI", database_uri)
    # The stock server asks for it as it is imported; nothing here connects to it.
    monkeypatch.setenv("REDIS_URI", "redis://127.0.0.1:1")
    settings.cache_clear()
    # Not before: it imports the stock server.
    from langgraph_runtime_holdfast.store import index_config, set_store_config

    set_store_config(store or {})
    await migrate(database_uri, timeout_seconds=30, store_index=index_config())
    try:
        async with connect() as opened:
            yield opened
    finally:
        await close_pool()
        set_store_config({})
        settings.cache_clear()
