"""The engine's own meters, beside the stock server's: what this process counts and measures.

No label is an identity: graphs and outcomes are few, threads, users and runs are not.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SAVE_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


def prefix() -> str:
    """What every name begins with; METRIC_PREFIX, as the stock server takes it."""
    return os.environ.get("METRIC_PREFIX", "lg_api_")


@dataclass(frozen=True)
class Meters:
    """What is counted and measured in this process; its gauges are set by who knows."""

    runs_ended: Counter
    runs_retried: Counter
    runs_handed_back: Counter
    runs_taken_over: Counter
    leases_lapsed: Counter
    callback_attempts: Counter
    save_seconds: Histogram
    save_lag: Gauge
    loop_lag: Gauge
    job_loops_blocked: Gauge
    job_loop_lag: Gauge
    postgres_up: Gauge
    valkey_up: Gauge


@functools.cache
def meters() -> Meters:
    """The meters of this process, made at the first use: their names need the deployment's environment."""

    def counter(name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{prefix()}{name}", text, labels)

    def gauge(name: str, text: str) -> Gauge:
        return Gauge(f"{prefix()}{name}", text)

    callback_attempts = counter(
        "callback_attempts", "Attempts to deliver callbacks: delivered, failed or dead.", "outcome"
    )
    for outcome in ("delivered", "failed", "dead"):
        callback_attempts.labels(outcome)  # from 0 on, so that the first one is an increase
    return Meters(
        runs_ended=counter("runs_ended", "Runs that a worker brought to an end.", "graph", "status"),
        runs_retried=counter("runs_retried", "Attempts that failed and put their run into the queue again."),
        runs_handed_back=counter(
            "runs_handed_back", "Attempts that a stop, or a lost database, ended; they do not count."
        ),
        runs_taken_over=counter("runs_taken_over", "Runs taken from workers that died."),
        leases_lapsed=counter("leases_lapsed", "Leases that could not be extended in time."),
        callback_attempts=callback_attempts,
        save_seconds=Histogram(
            f"{prefix()}checkpoint_save_seconds",
            "From when the oldest checkpoint of a batch came until the batch was saved.",
            buckets=_SAVE_SECONDS,
        ),
        save_lag=gauge("checkpoint_save_lag_seconds", "How long the oldest unsaved checkpoint has waited."),
        loop_lag=gauge("event_loop_lag_seconds", "The longest that the API's event loop was late, of late."),
        job_loops_blocked=gauge("job_loops_blocked", "Event loops of jobs that a node blocks now."),
        job_loop_lag=gauge("job_loop_lag_seconds", "How late the slowest event loop of jobs answers."),
        postgres_up=gauge("postgres_up", "Whether Postgres answers this process."),
        valkey_up=gauge("valkey_up", "Whether Valkey answers this process."),
    )
