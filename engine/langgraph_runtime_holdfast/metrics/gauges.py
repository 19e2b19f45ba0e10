"""The gauges of the queue, the callbacks and the pools, sampled beside all work and within a bound.

`/metrics` shows what was sampled last and asks nobody, so that it answers while Postgres does not. What is
true of the whole deployment is `nan` then: unknown, which no alert takes for good news.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from prometheus_client import Gauge

from langgraph_runtime_holdfast.availability import heard, refusals
from langgraph_runtime_holdfast.database import connect, healthcheck, pool_stats
from langgraph_runtime_holdfast.metrics import get_metrics
from langgraph_runtime_holdfast.metrics.loop_lag import LoopLag
from langgraph_runtime_holdfast.metrics.meters import meters, prefix
from langgraph_runtime_holdfast.settings import settings
from langgraph_runtime_holdfast.valkey import VALKEY_ERRORS, ask, key

logger = structlog.stdlib.get_logger(__name__)

_SAMPLE_SECONDS: Final = 5.0
_MOST_SECONDS: Final = 4.0
_VALKEY_SECONDS: Final = 2.0
# A run waits since it became due: created, put back, or once its back-off is over. One behind a run of its
# thread does not wait for a worker.
SAMPLE: Final = """
SELECT (SELECT count(*) FROM run_inflight WHERE status = 'pending') AS n_pending,
       (SELECT count(*) FROM run_inflight WHERE status = 'running') AS n_running,
       (SELECT count(*) FROM run_inflight WHERE status = 'running'
           AND leased_until < now() - make_interval(secs => %(lease_seconds)s)) AS n_orphaned,
       (SELECT extract(epoch FROM max(now() - since))::float8
           FROM waiting_runs_v1(most => 200)) AS oldest_pending,
       (SELECT count(*) FROM outbox WHERE delivered_at IS NULL AND dead_at IS NULL) AS n_callbacks,
       (SELECT extract(epoch FROM now() - min(created_at))::float8 FROM outbox
           WHERE delivered_at IS NULL AND dead_at IS NULL) AS oldest_callback,
       (SELECT count(*) FROM outbox WHERE dead_at IS NOT NULL) AS n_dead,
       (SELECT count(*) FROM holdfast_pause) AS n_pauses
"""
_OURS: Final = {
    "n_orphaned": ("num_orphaned_runs", "Runs whose worker is gone and that nobody has taken over."),
    "oldest_pending": ("oldest_pending_run_seconds", "How long the oldest run that could run has waited."),
    "n_callbacks": ("num_pending_callbacks", "The number of callbacks that are to be delivered."),
    "oldest_callback": ("oldest_undelivered_callback_seconds", "The age of the oldest callback on its way."),
    "n_dead": ("num_dead_callbacks", "The number of callbacks that were given up and can be replayed."),
    "n_pauses": ("paused", "1 while `holdfast pause` has servers begin nothing."),
}


def of_the_deployment() -> frozenset[str]:
    """The gauges that say the same in every process, as they are in the database."""
    names = ["num_pending_runs", "num_running_runs", *(name for name, _ in _OURS.values())]
    return frozenset(prefix() + name for name in names)


async def sample() -> dict[str, Any]:
    """How many runs and callbacks wait, and how long the oldest ones have.

    Raises:
        TimeoutError: Postgres does not say so in time.
    """
    async with asyncio.timeout(_MOST_SECONDS), connect() as handle:
        row = await handle.fetch_one(SAMPLE, {"lease_seconds": settings().lease_seconds}, often=True)
    return {name: 0.0 if value is None else value for name, value in (row or {}).items()}


async def report_gauges() -> None:
    """Sample the gauges for `/metrics` every few seconds, and log them every STATS_INTERVAL_SECS."""
    from langgraph_api import config
    from langgraph_api.metrics_otlp import get_otlp_metrics_reporter

    reporter = get_otlp_metrics_reporter()
    reported: dict[str, int] = {}
    failing = False
    log_at = time.monotonic()
    while True:
        try:
            # What needs no answer first: it must be told while none comes, too.
            pools = _report_pools(reporter, reported)
            _report_workers(reporter)
            await _ask_valkey()
            stats = await _report_database(reporter)
            if stats is not None and time.monotonic() >= log_at:
                log_at = time.monotonic() + config.STATS_INTERVAL_SECS
                await logger.ainfo("Queue stats", **stats)
                await logger.ainfo("Postgres pool stats", **pools["postgres"])
            failing = False
        except Exception as error:
            if not failing:
                failing = True
                await logger.awarning(
                    "The gauges cannot be sampled now", error=f"{type(error).__name__}: {error}"
                )
        await asyncio.sleep(_SAMPLE_SECONDS)


async def watch_loop() -> None:
    """Measure this loop until cancelled."""
    lag = LoopLag()
    meters().loop_lag.set_function(lag.seconds)
    await lag.watch()


@functools.cache
def _deployment_gauges() -> dict[str, Gauge]:
    return {count: Gauge(f"{prefix()}{name}", text) for count, (name, text) in _OURS.items()}


async def _report_database(reporter: Any) -> dict[str, Any] | None:
    from langgraph_api import config

    # One figure for the whole deployment: a process that only executes runs leaves it to the others.
    shows_queue = not config.IS_QUEUE_ENTRYPOINT
    stats = None
    try:
        if shows_queue:
            stats = await sample()
        else:
            async with asyncio.timeout(_MOST_SECONDS):
                await healthcheck()
    except Exception:
        # Where every connection is in use it answers all the same, if not this question.
        meters().postgres_up.set(heard.is_fresh() and refusals.reason() is None)
        if shows_queue:
            _show_queue(reporter, defaultdict(lambda: math.nan))
        raise
    meters().postgres_up.set(1)
    if stats is not None:
        _show_queue(reporter, stats)
    return stats


def _show_queue(reporter: Any, stats: Mapping[str, Any]) -> None:
    from langgraph_api import metrics_otlp as names

    reporter.record_gauge(names.GAUGE_NUM_PENDING_RUNS, stats["n_pending"])
    reporter.record_gauge(names.GAUGE_NUM_RUNNING_RUNS, stats["n_running"])
    for count, gauge in _deployment_gauges().items():
        gauge.set(stats[count])


async def _ask_valkey() -> None:
    try:
        async with asyncio.timeout(_VALKEY_SECONDS):
            await ask(key("up"), lambda client: client.ping())
    except VALKEY_ERRORS:
        meters().valkey_up.set(0)
    else:
        meters().valkey_up.set(1)


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


def _report_workers(reporter: Any) -> None:
    """Report the jobs; the server's own collector does so too, but only every STATS_INTERVAL_SECS."""
    from langgraph_api import metrics_otlp as names

    workers = get_metrics()["workers"]
    if workers["max"] > 0:
        reporter.record_gauge(names.GAUGE_WORKERS_MAX, workers["max"])
        reporter.record_gauge(names.GAUGE_WORKERS_ACTIVE, workers["active"])
        reporter.record_gauge(names.GAUGE_WORKERS_AVAILABLE, workers["available"])


def show_job_loops(blocked: Callable[[], float], lag_seconds: Callable[[], float]) -> None:
    """Have `/metrics` ask, each time, how many job loops are blocked and how late the slowest answers."""
    meters().job_loops_blocked.set_function(blocked)
    meters().job_loop_lag.set_function(lag_seconds)


def report_wait(run: dict[str, Any], attempt: int) -> None:
    """Report how long a run has waited for its first attempt."""
    from langgraph_api import metrics_otlp as names

    if attempt == 1:
        seconds = max(0.0, time.time() - run["created_at"].timestamp())
        names.get_otlp_metrics_reporter().record_latency(
            names.LATENCY_RUN_QUEUE_WAIT_TIME_1ST_ATTEMPT, seconds
        )
