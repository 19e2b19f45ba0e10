"""The limit: the graph in the client's own process, with checkpoints in Postgres and no server at all."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from benchmarks.cases import Answer, check

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from psycopg import AsyncConnection
    from psycopg.rows import DictRow
    from psycopg_pool import AsyncConnectionPool

ONE_SAVER = "bare_one_saver"
SAVER_PER_RUN = "bare_saver_per_run"
SAVERS = (ONE_SAVER, SAVER_PER_RUN)
POOL_SIZE = 40  # as many as one server of the engine has


@contextlib.asynccontextmanager
async def postgres_pool(
    database_uri: str, size: int
) -> AsyncIterator[AsyncConnectionPool[AsyncConnection[DictRow]]]:
    """Open a pool of connections as the saver wants them."""
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool

    pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
        database_uri,
        min_size=size,
        max_size=size,
        open=False,
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
    )
    async with pool:
        yield pool


@contextlib.asynccontextmanager
async def bare_graph(
    database_uri: str, kind: str, clients: int
) -> AsyncIterator[Callable[[int], Awaitable[Answer]]]:
    """Open the pool and the saver; yields what runs the graph once, in a new thread.

    Args:
        database_uri: A database, empty or used like this before.
        kind: ONE_SAVER for all runs, or a SAVER_PER_RUN.
        clients: How many will call at once; more connections than that would idle.
    """
    # Here and not above: the client of a server has no use for them.
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    from benchmarks.graphs.three import builder

    async with postgres_pool(database_uri, min(clients, POOL_SIZE)) as pool:
        shared = AsyncPostgresSaver(pool)
        await shared.setup()
        graph = builder.compile(checkpointer=shared)

        async def call(number: int) -> Answer:
            runnable = graph if kind == ONE_SAVER else graph.copy({"checkpointer": AsyncPostgresSaver(pool)})
            config: RunnableConfig = {"configurable": {"thread_id": str(uuid.uuid4())}}
            values: Any = await runnable.ainvoke({"number": number}, config, durability="async")
            return check(values, number)

        yield call
