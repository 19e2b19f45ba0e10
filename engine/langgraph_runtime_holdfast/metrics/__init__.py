"""What `/metrics` says, and how it is known; the stock server asks here for the workers of its process."""

from __future__ import annotations


def get_metrics() -> dict[str, dict[str, int]]:
    """How many jobs this process may run, runs, and could take on."""
    from langgraph_api import config

    # What counts is imported by the operations, which the queue is above.
    from langgraph_runtime_holdfast.queue import active_workers

    most, active = config.N_JOBS_PER_WORKER, active_workers()
    return {"workers": {"max": most, "active": active, "available": most - active}}
