"""The target: this deployment's database, with its graphs loaded as a server loads them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from langgraph_runtime_holdfast.database import Handle, close_pool, connect
from langgraph_runtime_holdfast.errors import EngineError


def enter(config: Path) -> None:
    """Give this process the deployment's environment.

    Raises:
        EngineError: langgraph.json is wrong, or there is no database.
    """
    from langgraph_runtime_holdfast.deployment import load_deployment
    from langgraph_runtime_holdfast.find_database import find_database
    from langgraph_runtime_holdfast.settings import settings

    config = config.resolve()
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    # A connection that had a large value is closed, so as to free its memory; nobody needs to be told.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    os.environ["DATABASE_URI"] = find_database(config)
    settings.cache_clear()
    load_deployment(config, os.environ).enter()
    # The server's configuration demands one; nothing is sent there.
    os.environ.setdefault("REDIS_URI", "redis://127.0.0.1")


@asynccontextmanager
async def target(*, loads_graphs: bool = True, changes_nothing: bool = False) -> AsyncIterator[Handle]:
    """Open the database, and load the graphs that states are read with.

    Raises:
        EngineError: The database is not migrated, or a graph cannot be loaded.
    """
    from langgraph_api import _checkpointer as api_checkpointer
    from langgraph_api import config, graph
    from langgraph_api import store as api_store
    from langgraph_api.asyncio import set_event_loop

    from langgraph_runtime_holdfast.schema_state import require_schema
    from langgraph_runtime_holdfast.settings import settings
    from langgraph_runtime_holdfast.store import index_config

    set_event_loop(asyncio.get_running_loop())
    try:
        await require_schema(settings().dsn, wants_vectors=index_config() is not None)
    except EngineError as error:
        told = "and this server was told not to migrate it"
        raise EngineError(str(error).replace(told, "and is only migrated by `holdfast migrate`")) from None
    async with AsyncExitStack() as stack:
        stack.push_async_callback(close_pool)
        handle = await stack.enter_async_context(connect())
        if loads_graphs:
            stack.push_async_callback(api_checkpointer.exit_checkpointer)
            await api_checkpointer.start_checkpointer()
            stack.push_async_callback(api_store.exit_store)
            await api_store.collect_store_from_env()
            # Otherwise each graph gets its assistant, as at the start of a server.
            before, config.IS_EXECUTOR_ENTRYPOINT = config.IS_EXECUTOR_ENTRYPOINT, changes_nothing
            try:
                await graph.collect_graphs_from_env(True)
            except graph.GraphLoadError as error:
                raise EngineError(
                    f"Graph '{error.spec.id}' cannot be loaded: {error.cause_message}"
                ) from error
            finally:
                config.IS_EXECUTOR_ENTRYPOINT = before
        yield handle


def graphs() -> list[str]:
    """The graphs of langgraph.json, which `target` has loaded."""
    from langgraph_api.graph import GRAPHS

    return list(GRAPHS)
