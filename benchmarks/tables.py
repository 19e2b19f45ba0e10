"""The figures as tables: the same for the screen and for the page."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.goals import judge
from benchmarks.results import Measured, Report, median

Table = list[list[str]]
NOTICEABLE_CORES = 0.3
"""The benchmark itself and the servers that wait for their turn take less."""


def comparison(report: Report, case: str, clients: Sequence[int]) -> Table:
    """One case: requests a second and p50 at each number of clients."""
    header = ["", *(f"{count} client{'s' if count > 1 else ''}" for count in clients), "wrong or failed"]
    table = [header]
    for name, label in report.sides.items():
        cells = [_rate_and_p50(report.rows(name, case, count)) for count in clients]
        rows = [row for count in clients for row in report.rows(name, case, count)]
        if rows:
            table.append([label, *cells, str(sum(row.wrong + row.failed for row in rows))])
    return table


def streams(report: Report, clients: Sequence[int]) -> Table:
    """Streams: time to the first event and events a second of all clients at each number of clients."""
    header = ["", *(f"{count} client{'s' if count > 1 else ''}" for count in clients)]
    table = [header]
    for name, label in report.sides.items():
        cells = []
        for count in clients:
            rows = report.rows(name, "stream", count)
            first = milliseconds(median(row.first_event_p50_seconds for row in rows))
            events = median(row.events_per_second for row in rows)
            cells.append("-" if events is None else f"first after {first} ms · {events:.0f} events/s")
        if set(cells) != {"-"}:
            table.append([label, *cells])
    return table


def processor(report: Report, case: str, clients: int) -> Table:
    """Where the time goes: milliseconds of processor a request, by part."""
    parts = ("server", "postgres", "valkey", "client")
    table = [["", *parts, "all", "cores busy"]]
    for name, label in report.sides.items():
        rows = report.rows(name, case, clients)
        if not rows:
            continue
        spent = [median(row.processor_seconds_per_request.get(part) for row in rows) for part in parts]
        everything = sum(filter(None, spent))
        rate = median(row.per_second for row in rows) or 0.0
        table.append([label, *map(milliseconds, spent), milliseconds(everything), f"{everything * rate:.1f}"])
    return table


def goals(report: Report) -> Table:
    """The goals, the ratios and whether they are met."""
    table = [["goal", "wanted", "measured", ""]]
    for outcome in judge(report):
        goal = outcome.goal
        wanted = f"{'≥' if goal.at_least else '≤'} {goal.limit:.2f}"
        measured = "-" if outcome.ratio is None else f"{outcome.ratio:.2f}"
        table.append([goal.title, wanted, measured, outcome.verdict])
    return table


def disturbance(report: Report) -> str:
    """Whether anything else kept the machine busy, in a sentence; empty when nothing did."""
    others = sorted(row.other_cores for row in report.measured)
    if not others or others[-1] < NOTICEABLE_CORES:
        return ""
    disturbed = sum(cores >= NOTICEABLE_CORES for cores in others)
    return (
        f"Something else kept the machine busy in {disturbed} of {len(others)} measurements, with up to "
        f"{others[-1]:.1f} cores: measure again when it is quiet before believing a ratio."
    )


def faults(report: Report) -> list[str]:
    """What went wrong, in words, each kind once a side."""
    said: dict[str, None] = {}
    for row in report.measured:
        for fault in row.faults:
            said[f"{report.sides[row.side]}, {row.case}: {fault}"] = None
    return list(said)


def markdown(table: Table) -> str:
    """A table of Markdown, figures to the right."""
    header, *rows = table
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(table: Table) -> str:
    """A table of text."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    )


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds, with as many digits as mean something."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _rate_and_p50(rows: Sequence[Measured]) -> str:
    if not rows:
        return "-"
    rate = median(row.per_second for row in rows) or 0.0
    return f"{rate:.0f}/s · {milliseconds(median(row.p50_seconds for row in rows))} ms"
