"""One run of the benchmark: services, servers, client, and what is measured with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from benchmarks.client_process import client_process
from benchmarks.compare import Plan, compare, running_sides
from benchmarks.deep_queue import measure_drain
from benchmarks.growth import measure_growth
from benchmarks.results import Measured, Report
from benchmarks.search import measure_search
from benchmarks.services import running_services
from benchmarks.setting import PEERS, machine, today, versions, work_folder
from benchmarks.sides import Side
from benchmarks.tables import milliseconds

Note = Callable[[str], None]


def run(plan: Plan, chosen: Sequence[Side], note: Note, *, whole: bool) -> Report:
    """Measure.

    Args:
        plan: The loads of the comparison.
        chosen: What is compared; those that this machine cannot run are reported as absent.
        note: Told of each figure as it is made.
        whole: Growth, search and the deep queue as well.

    Raises:
        LocalStackError: Postgres or Valkey cannot be started, or another benchmark is running here.
    """
    report = Report(
        date=today(),
        machine=machine(),
        versions=versions(),
        sides={side.name: side.label for side in chosen},
        absent={},
        rounds=plan.rounds,
        seconds=plan.seconds,
    )

    def keep(row: Measured) -> None:
        report.measured.append(row)
        note(_line(row))

    with work_folder() as folder, running_services(folder) as services:
        if whole:
            # First, while Postgres has nothing to tidy up after the others.
            report.search += asyncio.run(measure_search(services, folder, note))
            report.drain.append(asyncio.run(measure_drain(services, folder, note)))
        with (
            client_process() as client,
            running_sides(chosen, services, folder, PEERS.resolve()) as (running, absent),
        ):
            for name, reason in absent.items():
                # The first sentence: what follows are lines of a log, with paths of this machine.
                report.absent[report.sides.pop(name)] = reason.split(". ", 1)[0]
                note(f"{name} is not measured here: {reason}")
            compare(plan, running, services, client, keep)
            if whole:
                report.growth += asyncio.run(measure_growth(running, note))
    return report


def _line(row: Measured) -> str:
    return (
        f"round {row.round}  {row.side:<12} {row.case:<19} {row.clients:>4} clients {row.per_second:8.1f}/s  "
        f"p50 {milliseconds(row.p50_seconds):>6} ms  wrong {row.wrong} failed {row.failed}"
    )
