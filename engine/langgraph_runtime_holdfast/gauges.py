"""The gauges of the queue and the pools, which the server's own collector reports for its own engine only."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from langgraph_runtime_holdfast.database import connect, pool_stats
from langgraph_runtime_holdfast.ops.runs import Runs
from langgraph_runtime_holdfast.outbox import rows

logger = structlog.stdlib.get_logger(__name__)

_SAMPLE_SECONDS: Final = 10.0


async def report_gauges() -> None:
    """Sample the gauges for `/metrics` every few seconds, and log them every STATS_INTERVAL_SECS."""
    from langgraph_api import config
    from langgraph_api.metrics_otlp import get_otlp_metrics_reporter

    reporter = get_otlp_metrics_reporter()
    reported: dict[str, int] = {}
    log_at = time.monotonic()
    while True:
        try:
            stats = await _report_queue(reporter, is_queue=config.IS_QUEUE_ENTRYPOINT)
            pools = _report_pools(reporter, reported)
            if time.monotonic() >= log_at:
                log_at = time.monotonic() + config.STATS_INTERVAL_SECS
                await logger.ainfo("Queue stats", **stats)
                await logger.ainfo("Postgres pool stats", **pools["postgres"])
        except Exception as error:
            await logger.awarning(
                "The gauges cannot be sampled now", error=f"{type(error).__name__}: {error}"
            )
        await asyncio.sleep(_SAMPLE_SECONDS)


@functools.cache
def _callback_gauges() -> dict[str, Any]:
    """Gauges of our own, by the name of the count; `/metrics` shows what is in the client's registry.

    The server's reporter would keep them to itself: it shows only names that it has.
    """
    from langgraph_api.metrics_otlp import METRIC_NAME_PREFIX
    from prometheus_client import Gauge

    described = {
        "n_pending": ("num_pending_callbacks", "The number of callbacks that are to be delivered."),
        "n_dead": ("num_dead_callbacks", "The number of callbacks that were given up and can be replayed."),
    }
    return {count: Gauge(f"{METRIC_NAME_PREFIX}{name}", text) for count, (name, text) in described.items()}


async def _report_queue(reporter: Any, *, is_queue: bool) -> dict[str, Any]:
    from langgraph_api import metrics_otlp as names

    async with connect() as handle:
        stats = await Runs.stats(handle)
        waiting = await rows.counts(handle)
    # One figure for the whole deployment: a process that only executes runs leaves it to the others.
    if not is_queue:
        reporter.record_gauge(names.GAUGE_NUM_PENDING_RUNS, stats["n_pending"])
        reporter.record_gauge(names.GAUGE_NUM_RUNNING_RUNS, stats["n_running"])
        for count, gauge in _callback_gauges().items():
            gauge.set(waiting[count])
    return stats


def _report_pools(reporter: Any, reported: dict[str, int]) -> dict[str, dict[str, int]]:
    """Report the pools; `reported` is what has been counted so far, because counters take differences."""
    from langgraph_api import metrics_otlp as names

    pools = pool_stats()
    postgres, valkey = pools["postgres"], pools["redis"]
    reporter.record_gauge(names.GAUGE_PG_POOL_MAX, postgres["pool_max"])
    reporter.record_gauge(names.GAUGE_PG_POOL_SIZE, postgres["pool_size"])
    reporter.record_gauge(names.GAUGE_PG_POOL_AVAILABLE, postgres["pool_available"])
    reporter.record_gauge(names.GAUGE_REDIS_POOL_MAX, valkey["max_connections"])
    reporter.record_gauge(names.GAUGE_REDIS_POOL_SIZE, valkey["in_use_connections"])
    reporter.record_gauge(names.GAUGE_REDIS_POOL_AVAILABLE, valkey["idle_connections"])
    for counted, name in (
        ("requests_queued", names.COUNTER_PG_POOL_REQUESTS_QUEUED),
        ("requests_errors", names.COUNTER_PG_POOL_REQUESTS_ERRORS),
    ):
        # A loop that ended took its counts with it.
        reporter.inc_counter(name, max(0, postgres[counted] - reported.get(counted, 0)))
        reported[counted] = postgres[counted]
    return pools


def show_job_loops(blocked: Callable[[], float], lag_seconds: Callable[[], float]) -> None:
    """Have `/metrics` ask, each time, how many job loops are blocked and how late the slowest answers."""
    blocked_gauge, lag_gauge = _loop_gauges()
    blocked_gauge.set_function(blocked)
    lag_gauge.set_function(lag_seconds)


@functools.cache
def _loop_gauges() -> tuple[Any, Any]:
    from langgraph_api.metrics_otlp import METRIC_NAME_PREFIX
    from prometheus_client import Gauge

    return (
        Gauge(f"{METRIC_NAME_PREFIX}job_loops_blocked", "Event loops of jobs that a node blocks now."),
        Gauge(
            f"{METRIC_NAME_PREFIX}job_loop_lag_seconds", "How late the slowest event loop of jobs answers."
        ),
    )


def report_wait(run: dict[str, Any], attempt: int) -> None:
    """Report how long a run has waited for its first attempt."""
    from langgraph_api import metrics_otlp as names

    if attempt == 1:
        seconds = max(0.0, time.time() - run["created_at"].timestamp())
        names.get_otlp_metrics_reporter().record_latency(
            names.LATENCY_RUN_QUEUE_WAIT_TIME_1ST_ATTEMPT, seconds
        )
