"""What the server does around its life: opens the pool, loads graphs, starts the queue and the sweepers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import structlog
from starlette.applications import Starlette

from langgraph_runtime_holdfast import __version__, pause
from langgraph_runtime_holdfast.arrival import wait_again
from langgraph_runtime_holdfast.database import connect, hurry, start_pool, stop_pool
from langgraph_runtime_holdfast.feed import close_follower
from langgraph_runtime_holdfast.metrics.gauges import report_gauges, watch_loop
from langgraph_runtime_holdfast.metrics.page import share, share_no_more
from langgraph_runtime_holdfast.ops.outgoing import outgoing
from langgraph_runtime_holdfast.queue import queue
from langgraph_runtime_holdfast.surface import check_surface
from langgraph_runtime_holdfast.tracing import flush_traces

logger = structlog.stdlib.get_logger(__name__)

_DEFAULT_SWEEP_MINUTES: Final = 5.0

_last_error: BaseException | None = None


def get_last_error() -> BaseException | None:
    """Why the server did not start; None if it did."""
    return _last_error


@asynccontextmanager
async def lifespan(
    app: Starlette | None = None,
    cancel_event: asyncio.Event | None = None,
    taskset: set[asyncio.Task[Any]] | None = None,
    *,
    with_cron_scheduler: bool = True,
    **_: Any,
) -> AsyncIterator[None]:
    """Start what the server needs, and stop it again.

    Args:
        app: The server's application.
        cancel_event: Set when a background task fails.
        taskset: Further tasks that end with this.
        with_cron_scheduler: Leave it out where only the queue is served.
        _: What newer servers may add.

    Raises:
        EngineError: The database, Valkey or the server's version cannot be used; one line says why.
        GraphLoadError: A graph cannot be loaded.
    """
    from langgraph_api.asyncio import SimpleTaskGroup, set_event_loop

    global _last_error
    _last_error = None
    set_event_loop(asyncio.get_running_loop())
    async with AsyncExitStack() as stack:
        try:
            check_surface()
            await _start_services(stack)
            tasks = await stack.enter_async_context(
                SimpleTaskGroup(
                    cancel=True, cancel_event=cancel_event, taskset=taskset, taskgroup_name="Lifespan"
                )
            )
            await _start_work(tasks, with_cron_scheduler=with_cron_scheduler)
        except Exception as error:
            _last_error = error
            raise
        try:
            yield
        except asyncio.CancelledError:
            # The server stops; what was started is stopped below.
            await logger.ainfo("Shutting down")
        await hurry()


lifespan.get_last_error = get_last_error  # type: ignore[attr-defined]


async def _start_services(stack: AsyncExitStack) -> None:
    """Start what others need; each is stopped in the reverse order, also if a later one does not start."""
    from langgraph_api import __version__ as api_version
    from langgraph_api import _checkpointer as api_checkpointer
    from langgraph_api import graph
    from langgraph_api import store as api_store
    from langgraph_api.http import start_http_client, stop_http_client, stop_webhook_http_client

    await logger.ainfo("Starting Holdfast's engine", version=__version__, langgraph_api_version=api_version)
    _report_start(stack)
    stack.callback(share_no_more)
    share()
    stack.push_async_callback(flush_traces)
    stack.push_async_callback(stop_pool)
    stack.push_async_callback(close_follower)
    stack.push_async_callback(outgoing().settle)
    await wait_again()
    await start_pool()
    stack.push_async_callback(stop_webhook_http_client)
    stack.push_async_callback(stop_http_client)
    await start_http_client()
    stack.push_async_callback(graph.stop_remote_graphs)
    stack.push_async_callback(api_checkpointer.exit_checkpointer)
    await api_checkpointer.start_checkpointer()
    stack.push_async_callback(api_store.exit_store)
    await api_store.collect_store_from_env()


def _report_start(stack: AsyncExitStack) -> None:
    from langgraph_api import metrics_otlp

    reporter = metrics_otlp.get_otlp_metrics_reporter()
    reporter.initialize()
    reporter.inc_counter(metrics_otlp.COUNTER_SERVER_STARTED)

    def report_stop() -> None:
        reporter.inc_counter(metrics_otlp.COUNTER_SERVER_STOPPED)
        reporter.shutdown()

    stack.callback(report_stop)
    stack.callback(reporter.inc_counter, metrics_otlp.COUNTER_SERVER_REQUESTED_TO_STOP)


async def _start_work(tasks: Any, *, with_cron_scheduler: bool) -> None:
    """Load the graphs and start the background tasks."""
    from langgraph_api import config, cron_scheduler, graph
    from langgraph_api import store as api_store
    from langgraph_api.metadata import metadata_loop
    from langgraph_api.metrics_collector import collector_loop

    tasks.create_task(metadata_loop())
    tasks.create_task(collector_loop())
    tasks.create_task(report_gauges())
    tasks.create_task(pause.watch())
    tasks.create_task(watch_loop())
    store = await api_store.get_store()
    if not api_store.CUSTOM_STORE:
        tasks.create_task(store.start_ttl_sweeper())
    _offer_store(store)
    graph.patch_packages_distributions()
    try:
        await graph.collect_graphs_from_env(True)
    except graph.GraphLoadError as error:
        await logger.aerror(
            f"Graph '{error.spec.id}' failed to load: {error.cause_message}", **error.log_fields()
        )
        raise
    if config.N_JOBS_PER_WORKER > 0:
        tasks.create_task(_queue_or_stop())
    tasks.create_task(_sweep_threads(config.THREAD_TTL or {}))
    if with_cron_scheduler and config.FF_CRONS_ENABLED:
        tasks.create_task(cron_scheduler.cron_scheduler())


def _offer_store(store: Any) -> None:
    """Let graph factories reach the store while they are loaded."""
    from langchain_core.runnables.config import var_child_runnable_config
    from langgraph._internal._constants import CONFIG_KEY_RUNTIME
    from langgraph.runtime import Runtime

    var_child_runnable_config.set({"configurable": {CONFIG_KEY_RUNTIME: Runtime(store=store)}})


async def _queue_or_stop() -> None:
    try:
        await queue()
    except asyncio.CancelledError:
        raise
    except Exception as error:
        # A server that takes runs and works on none is worse than one that is restarted.
        await logger.aexception("The queue failed; stopping the server", exc_info=error)
        signal.raise_signal(signal.SIGINT)


async def _sweep_threads(ttl: dict[str, Any]) -> None:
    """Delete or prune threads that have expired, every so often."""
    from langgraph_runtime_holdfast.ops.threads import Threads

    interval_minutes = float(ttl.get("sweep_interval_minutes") or _DEFAULT_SWEEP_MINUTES)
    while True:
        await asyncio.sleep(interval_minutes * 60)
        try:
            async with connect() as handle:
                if await pause.is_on(handle):
                    continue
                await Threads.sweep_ttl(handle, limit=ttl.get("sweep_limit"))
        except Exception as error:
            await logger.aexception("Expired threads cannot be swept now", exc_info=error)
