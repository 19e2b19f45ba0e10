"""docs/scale.md says what was measured and what the command computes from it: it cannot go stale."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from langgraph_runtime_holdfast.capacity.answer import answer
from langgraph_runtime_holdfast.capacity.measured import Cell, read_measured
from langgraph_runtime_holdfast.capacity.plan import BUSY, Load
from langgraph_runtime_holdfast.capacity.waiting import Slots
from tests.unit.queue_simulation import SERVICES, part, simulate

MEASURED = read_measured()
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scale.md").read_text()


def test_every_example_is_what_the_command_says() -> None:
    asked = [(rate, kilobytes) for rate in (10, 1_000, 10_000) for kilobytes in (1, 20)]
    assert table("| runs/s |") == [example(*each) for each in asked]


def test_the_costs_are_those_that_were_measured() -> None:
    assert table("| steps, kB each |") == [cost(each) for each in MEASURED.cells]


def test_the_sentences_have_the_figures_that_were_measured() -> None:
    plain = " ".join(PAGE.split())
    assert [text for text in sentences() if text not in plain] == []


@pytest.mark.parametrize("kind", ["all the same", "a few very long"])
def test_the_page_says_how_far_other_run_times_are_from_the_model(kind: str) -> None:
    model = Slots(10, 8, 1.0)
    seen = simulate(10, 0.8, SERVICES[kind], count=100_000, seed=1)
    (row,) = re.findall(rf"\| {kind}[^|]*\| ([\d.]+) \| ([\d.]+) \|", PAGE)
    assert statistics.fmean(seen) / model.mean_wait_seconds == pytest.approx(float(row[0]), rel=0.2)
    assert part(seen, 0.95) / model.wait_seconds(0.95) == pytest.approx(float(row[1]), rel=0.2)


def example(runs_per_second: float, kilobytes: float) -> dict[str, str]:
    """A row of the page's table."""
    load = Load(runs_per_second, 2.0, kilobytes=kilobytes, jobs=40, keep_days=7)
    found = answer(load, MEASURED)
    plan, pooler = found.plan, found.plan.connections.pgbouncer
    return {
        "runs/s": f"{runs_per_second:,.0f}",
        "kB a step": f"{kilobytes:g}",
        "deployments": str(found.deployments),
        "api, queues": f"{plan.servers.api}, {plan.servers.queue}",
        "cores of api, queues": f"{plan.servers.api_cores:.1f}, {plan.servers.queue_cores:.1f}",
        "Postgres: cores busy, to have": f"{plan.postgres.cores_busy:.1f}, {plan.postgres.cores}",
        "commits/s": f"{plan.postgres.commits_per_second:,.0f}",
        "WAL MB/s": f"{plan.postgres.wal_mb_per_second:.1f}",
        "`max_connections`": str(plan.connections.max_connections),
        "PgBouncer": "none" if pooler is None else f"{pooler.count} x {pooler.default_pool_size}",
        "disk GB a day": f"{plan.disk.gb_per_day:,.0f}",
        "kept 7 days, GB": f"{plan.disk.kept_gb:,.0f}",
        "Valkey": f"{plan.valkey.nodes} x {plan.valkey.memory_mb / plan.valkey.nodes / 1000:.1f} GB",
        "overlay": next((fit.overlay for fit in found.overlays if fit.fits), "none as it is"),
    }


def cost(cell: Cell) -> dict[str, str]:
    """A row of the other table."""
    return {
        "steps, kB each": f"{cell.steps}, {cell.kilobytes:g}",
        "Postgres ms": f"{cell.postgres_ms:.1f}",
        "WAL kB": f"{cell.wal_bytes / 1000:,.0f}",
        "kept kB": f"{cell.kept_bytes / 1000:,.0f}",
        "commits": f"{cell.commits:.0f}",
        "connection ms": f"{cell.connection_ms:.0f}",
        "API ms": f"{cell.api_ms:.1f}",
        "queue ms": f"{cell.queue_ms:.0f}",
        "Valkey ms": f"{cell.valkey_ms:.1f}",
        "Valkey kB": f"{cell.valkey_bytes / 1000:,.0f}",
    }


def sentences() -> list[str]:
    """Parts of sentences, with their figures."""
    small = MEASURED.cost(5, 1)
    looks, claims = MEASURED.looks_a_run, MEASURED.claims
    return [
        f"{MEASURED.source.date}, {MEASURED.source.machine}",
        f"`{MEASURED.source.command}`",
        f"costs {MEASURED.held.postgres_ms:.1f} ms of Postgres and {MEASURED.held.wal_bytes:.0f} bytes of",
        f"{looks[1]:.1f} looks with one queue and {looks[3]:.1f} with three",
        f"costs Postgres {claims[0].postgres_ms:.1f} ms, and {claims[-1].postgres_ms:.1f} ms while 10,000",
        f"**starts** {MEASURED.start_ms:.0f} ms after",
        f"costs the API {MEASURED.stream_api_ms:.1f} ms where one that waits {MEASURED.wait_api_ms:.1f}",
        f"an API process about {1000 * BUSY / small.api_ms:.0f} runs a second",
        f"a queue about {1000 * BUSY / small.queue_ms:.0f} of short runs",
        f"{1000 / small.postgres_ms:.0f} runs a second of five small steps for each core",
        f"{MEASURED.statements(5):.0f} statements",
    ]


def table(begin: str) -> list[dict[str, str]]:
    """The rows of the table whose head begins so."""
    lines = PAGE.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(begin))
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines[first : lines.index("", first)]
    ]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
