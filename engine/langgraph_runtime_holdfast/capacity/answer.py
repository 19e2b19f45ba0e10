"""What is told: the plan in words and figures, what stands in the way, and where the figures are from."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from langgraph_runtime_holdfast.capacity.measured import Measured, Source
from langgraph_runtime_holdfast.capacity.overlays import Fit, fits
from langgraph_runtime_holdfast.capacity.plan import Load, Plan, deployments_for, plan_for
from langgraph_runtime_holdfast.errors import EngineError

_MANY_LOOKS = 0.25
"""From this part of Postgres' time on, queues that look and find nothing are worth a word."""
_MANY_COMMITS = 1_000


@dataclass(frozen=True)
class Answer:
    """All of it."""

    load: Load
    deployments: int
    """Each with a Postgres of its own; the plan is of one of them."""
    plan: Plan
    overlays: list[Fit]
    remarks: list[str]
    source: Source

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        told = asdict(self.plan)
        for name in ("of_api", "of_queue"):
            pools = getattr(self.plan.connections, name)
            told["connections"][name]["total"] = pools.total
        return {
            "load": asdict(self.load),
            "deployments": self.deployments,
            **told,
            "overlays": [asdict(each) for each in self.overlays],
            "remarks": self.remarks,
            "source": self.source.model_dump(),
        }

    def sections(self) -> dict[str, list[tuple[str, str]]]:
        """For people: rows of what and how much, by subject."""
        servers, postgres, disk = self.plan.servers, self.plan.postgres, self.plan.disk
        connections, valkey = self.plan.connections, self.plan.valkey
        each = f"each of {self.deployments} deployments" if self.deployments > 1 else "servers"
        pooler = connections.pgbouncer
        return {
            each: [
                ("api", f"{servers.api} ({servers.api_cores:.1f} cores busy; one may be away)"),
                (
                    "queue",
                    f"{servers.queue} x {self.load.jobs} slots, {servers.load:.0%} busy "
                    f"({servers.queue_cores:.1f} cores; one may be away)",
                ),
                (
                    "wait for a slot",
                    f"p50 {_seconds(servers.wait_p50_seconds)}, p95 {_seconds(servers.wait_p95_seconds)}; "
                    f"with one queue away p95 {_seconds(servers.wait_p95_seconds_with_one_away)}; "
                    f"{_seconds(servers.start_seconds)} to start come on top",
                ),
            ],
            "connections": [
                ("HOLDFAST_REPLICAS", f"{connections.servers:,}, each server twice while a rollout lasts"),
                ("pools", f"api {connections.of_api}; queue {connections.of_queue}"),
                ("max_connections", f"{connections.max_connections} ({connections.at_work:.1f} at work)"),
                (
                    "PgBouncer",
                    "none is needed"
                    if pooler is None
                    else f"{pooler.count}, default_pool_size {pooler.default_pool_size} each, "
                    f"max_client_conn {pooler.max_client_conn:,}",
                ),
            ],
            "postgres": [
                ("cores", f"{postgres.cores} ({postgres.cores_busy:.1f} busy)"),
                ("a run", f"{postgres.ms_per_run:.1f} ms, {postgres.statements_per_run:.0f} statements"),
                (
                    "a second",
                    f"{postgres.commits_per_second:,.0f} commits, {postgres.wal_mb_per_second:.1f} MB of WAL",
                ),
                ("WAL a day", f"{postgres.wal_gb_per_day:,.0f} GB, to archive or to replicate"),
                ("disk a day", f"{disk.gb_per_day:,.1f} GB ({disk.kept_bytes_per_run / 1000:,.0f} kB a run)"),
                (
                    f"kept {self.load.keep_days:g} days",
                    f"{disk.kept_gb:,.0f} GB, on a disk of {disk.disk_gb:,} GB",
                ),
            ],
            "valkey": [
                ("nodes", f"{valkey.nodes}{' (a cluster)' if valkey.nodes > 1 else ''}"),
                ("of it", f"{valkey.cores_busy:.2f} cores busy, {valkey.memory_mb:,} MB"),
            ],
            "overlay": [
                (fit.overlay, "fits" if fit.fits else f"wants {', '.join(fit.lacks)}")
                for fit in self.overlays
            ],
            **({"remarks": [("-", text) for text in self.remarks]} if self.remarks else {}),
            "measured": [(self.source.date, self.source.machine)],
        }


def answer(load: Load, measured: Measured) -> Answer:
    """What a load needs.

    Raises:
        EngineError: The load is none that there can be; the line names the option.
    """
    _check(load)
    deployments, plan = deployments_for(load, measured)
    overlays = fits(plan) if deployments == 1 else []
    return Answer(
        load, deployments, plan, overlays, _remarks(load, deployments, plan, measured), measured.source
    )


def _check(load: Load) -> None:
    bounds: list[tuple[str, float, float, float]] = [
        ("--runs-per-second", load.runs_per_second, 0.001, 100_000),
        ("--seconds-per-run", load.seconds_per_run, 0.001, 86_400),
        ("--wait", load.wait_seconds, 0.0, 86_400),
        ("--steps", load.steps, 1, 1_000),
        ("--state-kb", load.kilobytes, 0, 100_000),
        ("--jobs", load.jobs, 1, 1_000),
        ("--keep-days", load.keep_days, 0, 36_500),
        ("--streamed", load.streamed, 0, 1),
        ("--own-ms", load.own_ms, 0, 3_600_000),
    ]
    if load.average_runs_per_second is not None:
        bounds.append(("--average", load.average_runs_per_second, 0, load.runs_per_second))
    for name, value, least, most in bounds:
        if math.isnan(value) or not least <= value <= most:
            raise EngineError(f"{name} is {value:g}; it is from {least:g} to {most:,.12g}.")
    if load.own_ms > load.seconds_per_run * 1000:
        raise EngineError(
            f"--own-ms is {load.own_ms:g}: more than the {load.seconds_per_run:g} s that a run takes."
        )


def _remarks(load: Load, deployments: int, plan: Plan, measured: Measured) -> list[str]:
    servers, postgres = plan.servers, plan.postgres
    told: list[str] = []
    if deployments > 1:
        told.append(
            f"One deployment does not carry {' or '.join(plan_for(load, measured).beyond())}: divide tenants "
            f"among {deployments}, each with {load.runs_per_second / deployments:,.0f} runs a second."
        )
    if postgres.cores_for_looks > _MANY_LOOKS * postgres.cores_busy:
        looks = f"{postgres.cores_for_looks:.1f} of {postgres.cores_busy:.1f} busy cores of Postgres"
        told.append(
            f"Up to {looks} go into looking for runs: each run wakes all {servers.queue} queues. "
            "Fewer with more slots (--jobs) look less."
        )
    if servers.bound_by == "processor":
        told.append("Processor decides how many queues there are, not slots: more --jobs would not help.")
    if postgres.commits_per_second > _MANY_COMMITS:
        told.append(
            f"{postgres.commits_per_second:,.0f} commits a second want a disk that acknowledges within a "
            "millisecond; a synchronous standby adds its round trip to each, and a connection for as long."
        )
    most = max(each.kilobytes for each in measured.cells), max(each.steps for each in measured.cells)
    if load.kilobytes > most[0] or load.steps > most[1]:
        told.append(
            f"Measured were up to {most[1]} steps of {most[0]:g} kB: this is beyond, on a straight line."
        )
    if plan.disk.disk_gb > 10_000:
        told.append(
            "More than 10 TB are kept: a shorter TTL, `keep_latest`, or state kept elsewhere by address."
        )
    return told


def _seconds(value: float) -> str:
    if math.isinf(value):
        return "without end"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
