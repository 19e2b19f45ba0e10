"""The figures that `holdfast top` shows, from the database or from a server's `/metrics`.

The database knows who works on what, and who is connected; a server knows its slots, its pools and its loops.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import httpx
import psycopg

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.metrics.gauges import SAMPLE
from langgraph_runtime_holdfast.metrics.meters import prefix
from langgraph_runtime_holdfast.settings import settings

Figures = dict[str, Any]
_SECONDS: Final = 5.0
# User and password of an address, which an error repeats.
_LOGIN: Final = re.compile(r"//[^/\s]*@")
# A worker is a host and a process; what comes after is random.
_WORKERS: Final = """
SELECT array_to_string((string_to_array(leased_by, ':'))[1:2], ':') AS worker, count(*) AS runs,
       extract(epoch FROM max(now() - updated_at))::float8 AS longest_seconds,
       extract(epoch FROM min(leased_until) - now())::float8 AS lease_left_seconds
FROM run_inflight WHERE status = 'running' GROUP BY leased_by ORDER BY leased_by
"""
_CONNECTIONS: Final = """
SELECT coalesce(nullif(application_name, ''), '(no name)') AS application,
       coalesce(host(client_addr), 'its socket') AS address, count(*) AS connections,
       count(*) FILTER (WHERE state <> 'idle') AS at_work,
       count(*) FILTER (WHERE wait_event_type = 'Lock') AS behind_locks
FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 40
"""


def from_database(connection: psycopg.Connection[dict[str, Any]]) -> Figures:
    """What the database knows, asked within a bound."""
    with connection.transaction():
        connection.execute("SELECT set_config('statement_timeout', %s, true)", [f"{_SECONDS:.0f}s"])
        row = connection.execute(SAMPLE, {"lease_seconds": settings().lease_seconds}).fetchone() or {}
        workers = connection.execute(_WORKERS).fetchall()
        connections = connection.execute(_CONNECTIONS).fetchall()
    return {
        "queue": {
            "pending": row["n_pending"],
            "running": row["n_running"],
            "oldest_pending_seconds": row["oldest_pending"] or 0.0,
            "orphaned": row["n_orphaned"],
            "paused": row["n_pauses"],
        },
        "workers": workers,
        "pools": connections,
        "callbacks": {
            "pending": row["n_callbacks"],
            "oldest_seconds": row["oldest_callback"] or 0.0,
            "dead": row["n_dead"],
        },
    }


def from_server(url: str) -> Figures:
    """What a server says on `/metrics`; null is what it does not say, or does not know now.

    Raises:
        EngineError: It does not answer, or not with metrics.
    """
    address = f"{url.rstrip('/')}/metrics"
    try:
        samples = _samples(httpx.get(address, timeout=_SECONDS).raise_for_status().text)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        told = f"{address} cannot be read: {type(error).__name__}: {error}"
        raise EngineError(_LOGIN.sub("//…@", told)) from None
    if not samples:
        raise EngineError(_LOGIN.sub("//…@", f"{address} says nothing of Holdfast"))

    def most(name: str) -> float | None:
        return max((value for _, value in samples.get(name, ())), default=None)

    processes = sorted({labels.get("worker", "0") for values in samples.values() for labels, _ in values})

    def of(process: str, name: str) -> float | None:
        mine = [value for labels, value in samples.get(name, ()) if labels.get("worker", process) == process]
        return max(mine, default=None)

    return {
        "queue": {
            "pending": most("num_pending_runs"),
            "running": most("num_running_runs"),
            "oldest_pending_seconds": most("oldest_pending_run_seconds"),
            "orphaned": most("num_orphaned_runs"),
            "paused": most("paused"),
        },
        "workers": [
            {
                "worker": process,
                "runs": of(process, "workers_active"),
                "slots": of(process, "workers_max"),
                "blocked_loops": of(process, "job_loops_blocked"),
                "loop_lag_seconds": of(process, "event_loop_lag_seconds"),
                "save_lag_seconds": of(process, "checkpoint_save_lag_seconds"),
            }
            for process in processes
        ],
        "pools": [
            {
                "process": process,
                "postgres_up": of(process, "postgres_up"),
                "postgres_connections": of(process, "pg_pool_size"),
                "postgres_free": of(process, "pg_pool_available"),
                "postgres_most": of(process, "pg_pool_max"),
                "valkey_up": of(process, "valkey_up"),
                "valkey_connections": of(process, "redis_pool_size"),
            }
            for process in processes
        ],
        "callbacks": {
            "pending": most("num_pending_callbacks"),
            "oldest_seconds": most("oldest_undelivered_callback_seconds"),
            "dead": most("num_dead_callbacks"),
        },
    }


def _samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples with a known value, by their names without the prefix."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith(prefix()) and not math.isnan(sample.value):
                name = sample.name.removeprefix(prefix())
                found.setdefault(name, []).append((sample.labels, sample.value))
    return found
