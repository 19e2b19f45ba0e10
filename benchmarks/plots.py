"""The figures as pictures: SVG, the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.cases import CASES
from benchmarks.results import Drain, Growth, Report, median

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

TITLES: Final = {
    "stateless_wait": "stateless wait",
    "thread_wait": "thread + wait",
    "create_join": "create + join",
    "stream": "stream",
}
# Ours in blue, what is without a server dotted, the rest apart also in grey print.
STYLES: Final[dict[str, dict[str, Any]]] = {
    "bare_one": {"color": "#999999", "linestyle": ":", "marker": "x"},
    "bare": {"color": "#555555", "linestyle": ":", "marker": "+"},
    "dev": {"color": "#d98c00", "linestyle": "-", "marker": "s"},
    "shared": {"color": "#7fb2e5", "linestyle": "--", "marker": "o"},
    "isolated": {"color": "#0b5cad", "linestyle": "-", "marker": "o"},
    "workers2": {"color": "#0b5cad", "linestyle": "--", "marker": "^"},
    "aegra": {"color": "#b0305c", "linestyle": "-", "marker": "v"},
    "aegra_redis": {"color": "#b0305c", "linestyle": "--", "marker": "v"},
    "langhost": {"color": "#3f8f4f", "linestyle": "-", "marker": "D"},
}


def write_plots(report: Report, folder: Path, clients: Sequence[int]) -> list[str]:
    """Draw what was measured; returns the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update({"svg.hashsalt": "holdfast", "svg.fonttype": "none", "font.size": 9})
    written = [_save(_throughput(report, clients), folder / "throughput.svg")]
    if report.growth:
        written.append(_save(_growth(report, report.growth), folder / "growth.svg"))
    if report.drain:
        written.append(_save(_drain(report.drain[0]), folder / "queue.svg"))
    return written


def _throughput(report: Report, clients: Sequence[int]) -> Figure:
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    for place, case in enumerate(CASES, start=1):
        axes = figure.add_subplot(2, 2, place)
        for name, label in report.sides.items():
            points = [
                (count, median(row.per_second for row in report.rows(name, case, count))) for count in clients
            ]
            known = [(count, rate) for count, rate in points if rate is not None]
            if known:
                axes.plot(*zip(*known, strict=True), label=label, markersize=4, linewidth=1.2, **STYLES[name])
        axes.set(title=TITLES[case], xscale="log", xlabel="clients", ylabel="runs a second", ylim=(0, None))
        axes.set_xticks(list(clients), [str(count) for count in clients])
        axes.minorticks_off()
        _tidy(axes)
    handles, labels = _legend(figure.axes)
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _growth(report: Report, growth: Sequence[Growth]) -> Figure:
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    time, size = figure.subplots(1, 2)
    for one in growth:
        style = STYLES[one.side]
        label = report.sides[one.side]
        time.plot(one.turns, [seconds * 1000 for seconds in one.p50_seconds], label=label, **_thin(style))
        size.plot(one.turns, [grown / 1024 for grown in one.bytes_per_turn], **_thin(style))
    time.set(title="time of a turn", xlabel="turn", ylabel="ms (p50)", ylim=(0, None))
    size.set(title="what a turn adds to the database", xlabel="turn", ylabel="KiB", ylim=(0, None))
    for axes in (time, size):
        _tidy(axes)
    handles, labels = _legend([time])
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _drain(drain: Drain) -> Figure:
    figure = Figure(figsize=(9, 3.0), layout="constrained")
    rate, claim = figure.subplots(1, 2)
    rate.plot(range(1, len(drain.per_second) + 1), drain.per_second, color="#0b5cad", linewidth=1.2)
    rate.set(title="runs that end", xlabel="seconds", ylabel="runs a second", ylim=(0, None))
    claim.plot(
        drain.depths, [seconds * 1000 for seconds in drain.claim_p50_seconds], color="#0b5cad", marker="o"
    )
    claim.set(title="one claim in Postgres", xlabel="runs that wait", ylabel="ms (p50)", ylim=(0, None))
    claim.invert_xaxis()
    for axes in (rate, claim):
        _tidy(axes)
    return figure


def _thin(style: dict[str, Any]) -> dict[str, Any]:
    return {"color": style["color"], "linestyle": style["linestyle"], "linewidth": 1.2}


def _legend(all_axes: Sequence[Axes]) -> tuple[list[Artist], list[str]]:
    known: dict[str, Artist] = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    return list(known.values()), list(known)


def _tidy(axes: Axes) -> None:
    axes.grid(visible=True, color="#e5e5e5", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> str:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    return path.name
