"""`make bench`: everything, then docs/performance.md. About half an hour; quick.py takes three minutes."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from benchmarks import page, tables
from benchmarks.cases import CASES
from benchmarks.compare import Plan
from benchmarks.runner import run
from benchmarks.sides import SIDES
from langgraph_runtime_holdfast.local.errors import LocalStackError

CLIENTS = (1, 10, 50, 200)


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 2,
    seconds: Annotated[float, typer.Option(min=0.5, help="how long each is measured")] = 2.0,
) -> None:
    """Measure everything, keep it in .holdfast/bench/report.json, write docs/performance.md."""
    started = time.monotonic()

    def note(line: str) -> None:
        print(f"{time.monotonic() - started:5.0f} s  {line}", flush=True)

    try:
        report = run(Plan(tuple(CASES), CLIENTS, rounds, seconds), list(SIDES.values()), note, whole=True)
    except LocalStackError as error:
        sys.exit(str(error))
    report.write(page.REPORT_PATH)
    print(page.write_page())
    print(tables.plain(tables.goals(report)))
    note("done")


if __name__ == "__main__":
    typer.run(main)
