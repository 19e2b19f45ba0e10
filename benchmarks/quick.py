"""`make bench QUICK=1`: the most telling figures in some minutes, on the screen."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Annotated

import typer

from benchmarks import tables
from benchmarks.cases import CASES
from benchmarks.compare import Plan
from benchmarks.runner import run
from benchmarks.setting import HOME
from benchmarks.sides import SIDES
from langgraph_runtime_holdfast.local.errors import LocalStackError

QUICK_SIDES = tuple(name for name in SIDES if name not in ("bare_one", "aegra_redis"))


def main(
    sides: Annotated[str, typer.Option(help="which: " + ",".join(SIDES))] = ",".join(QUICK_SIDES),
    case: Annotated[str, typer.Option(help="which: " + ",".join(CASES))] = "thread_wait",
    clients: Annotated[str, typer.Option(help="how many at once, such as 1,50")] = "1,50",
    rounds: Annotated[int, typer.Option(min=1)] = 2,
    seconds: Annotated[float, typer.Option(min=0.5, help="how long each is measured")] = 2.5,
) -> None:
    """Measure sides against one another; prints medians of the rounds, and the goals as ratios."""
    plan = Plan(_known(case, CASES), tuple(map(int, clients.split(","))), rounds, seconds)
    chosen = [SIDES[name] for name in _known(sides, SIDES)]
    started = time.monotonic()
    try:
        report = run(plan, chosen, lambda line: print(line, flush=True), whole=False)
    except LocalStackError as error:
        sys.exit(str(error))
    report.write(HOME / "quick.json")
    most = max(plan.clients)
    for name in plan.cases:
        print(f"\n{name}: runs a second · p50")
        print(tables.plain(tables.comparison(report, name, plan.clients)))
        if name == "stream":
            print(tables.plain(tables.streams(report, plan.clients)))
        print(f"\n{name}, {most} clients: milliseconds of processor a run")
        print(tables.plain(tables.processor(report, name, most)))
    print("\n" + tables.plain(tables.goals(report)))
    for line in (tables.disturbance(report), *tables.faults(report)):
        print(line)
    print(f"\n{time.monotonic() - started:.0f} s")


def _known(text: str, names: Mapping[str, object]) -> tuple[str, ...]:
    chosen = tuple(name.strip() for name in text.split(","))
    for name in chosen:
        if name not in names:
            raise typer.BadParameter(f"there is no {name!r}. Choose from: {', '.join(names)}.")
    return chosen


if __name__ == "__main__":
    typer.run(main)
