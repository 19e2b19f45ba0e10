"""The worker gauges of `/metrics`."""

from __future__ import annotations

from langgraph_runtime_holdfast.queue import active_workers


def get_metrics() -> dict[str, dict[str, int]]:
    """How many jobs this process may run, runs, and could take on."""
    from langgraph_api import config

    most, active = config.N_JOBS_PER_WORKER, active_workers()
    return {"workers": {"max": most, "active": active, "available": most - active}}
