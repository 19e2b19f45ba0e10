"""From kinds of runs to what a run, a step and a kilobyte cost, none of which is less than nothing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from benchmarks.cost_rig import Used
from langgraph_runtime_holdfast.capacity.measured import Cell, Figures


def cell_of(steps: int, kilobytes: int, rounds: Sequence[tuple[int, Used]]) -> Cell:
    """Put rounds together: of what neighbours add to, the least; of all else the median."""
    least = ("postgres_ms", "api_ms", "queue_ms", "valkey_ms", "connection_ms")
    figures = {
        name: (min if name in least else statistics.median)(
            max(0.0, getattr(used, name) / runs) for runs, used in rounds
        )
        for name in Figures.model_fields
    }
    return Cell(steps=steps, kilobytes=kilobytes, runs=sum(runs for runs, _ in rounds), **figures)


def fitted(cells: Sequence[Cell]) -> tuple[Figures, Figures, Figures]:
    """What a run costs for itself, for each step, and for each kilobyte that its steps write."""
    found: dict[str, list[float]] = {}
    for name in Figures.model_fields:
        wanted = np.array([getattr(each, name) for each in cells])
        # Each counts by its part and not by its size: half a megabyte a step would else decide alone.
        weight = 1 / np.maximum(wanted, 1e-3 * max(wanted.max(), 1e-9))
        columns = np.array([[1, each.steps, each.written_kilobytes] for each in cells])
        found[name] = [float(each) for each in nnls(columns * weight[:, None], wanted * weight)[0]]
    run, step, kilobyte = (Figures(**{name: found[name][part] for name in found}) for part in range(3))
    return run, step, kilobyte


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Where a straight line through points begins, and how it rises."""
    columns = np.array([[1, x] for x, _ in points])
    begin, rise = nnls(columns, np.array([y for _, y in points]))[0]
    return float(begin), float(rise)
