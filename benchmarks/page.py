"""docs/performance.md, written from what was measured."""

from __future__ import annotations

import textwrap
from pathlib import Path

from benchmarks import tables
from benchmarks.cases import CASES, EVENTS
from benchmarks.graphs.chat import CHARACTERS
from benchmarks.growth import BLOCK
from benchmarks.plots import TITLES, write_plots
from benchmarks.profile_report import Profile
from benchmarks.results import Drain, Report, median
from benchmarks.setting import HOME
from benchmarks.sides import JOBS
from benchmarks.stacks import Share
from benchmarks.tables import Table, markdown, milliseconds

PAGE = Path("docs") / "performance.md"
IMAGES = Path("docs") / "img"
REPORT_PATH = HOME / "report.json"
RAREST_STATEMENT = 0.05
"""What is rarer than one in so many runs is the engine's own housekeeping."""
LONGEST_STATEMENT = 110
"""Characters of a statement that the page shows."""


def write_page() -> str:
    """Write the page and its pictures from the newest report and profile; returns a line about it."""
    report = Report.read(REPORT_PATH)
    if report is None:
        return f"no {REPORT_PATH} of this version yet: `make bench` makes it, and the page from it"
    clients = sorted({row.clients for row in report.measured})
    write_plots(report, IMAGES, clients)
    parts = [*_head(report), *_goals(report), *_sides(report, clients), *_processor(report, clients)]
    parts += [*_growth(report), *_search(report)]
    for drain in report.drain:
        parts += _drain(drain)
    profile = Profile.read()
    if profile:
        parts += _profile(profile)
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return f"wrote {PAGE}" + ("" if profile else ", without a profile: `make bench PROFILE=1` makes one")


def _text(*sentences: str) -> str:
    """A paragraph, as wide as the other pages."""
    return textwrap.fill(" ".join(sentences), 118, break_long_words=False, break_on_hyphens=False)


def _head(report: Report) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return [
        "# Performance",
        _text(
            "Written by `make bench` from what it measured, not by hand.",
            f"{report.date}; {report.machine}; {versions}.",
        ),
        *(_text(f"Not measured here: {name} ({reason}).") for name, reason in report.absent.items()),
        _text(
            f"All sides are measured in one run on one machine, one after another in {report.rounds}",
            f"rounds of {report.seconds:g} s each (longer where many clients meet a slow server), so that",
            "a machine that drifts hits all alike; what is shown is the median of the rounds",
            "(200 clients: one round). Another machine's figures differ, the ratios less so.",
            "Client, server, Postgres and Valkey share the cores. Every answer is checked.",
        ),
        _text(
            "The graph has three nodes that do next to nothing: what is measured is the platform.",
            "A client makes one request after another; all are in one process, the same for every side.",
            f"Each server has {JOBS} job slots a process and its other settings as they come;",
            "all use the same Postgres and Valkey, a database each.",
        ),
    ]


def _goals(report: Report) -> list[str]:
    told = _text(
        "Ratios within a round of this run, of the engine as it comes, in the round that speaks",
        "most against it: the in-memory server keeps all in one process and slows down as it fills, so that",
        "its first round is its best.",
        tables.disturbance(report),
    )
    return ["## Goals", told, markdown(tables.goals(report))]


def _sides(report: Report, clients: list[int]) -> list[str]:
    parts = ["## Side by side", "![runs a second against the number of clients](img/throughput.svg)"]
    parts.append("Runs a second · median time of one.")
    for case in CASES:
        parts += [f"### {TITLES[case].capitalize()}", markdown(tables.comparison(report, case, clients))]
        if case == "stream":
            parts.append(f"A run has {EVENTS} events of the graph's own and an update for each node.")
            parts.append(markdown(tables.streams(report, clients)))
    if faults := tables.faults(report):
        parts += ["What was wrong or failed:", "\n".join(f"- {fault}" for fault in faults)]
    return parts


def _processor(report: Report, clients: list[int]) -> list[str]:
    count = 50 if 50 in clients else clients[-1]
    return [
        "## Where the time goes",
        _text(
            f"Milliseconds of processor that one thread + wait takes at {count} clients, by process,",
            "and how many cores that kept busy. Where that is all of them, the processor is the limit.",
        ),
        markdown(tables.processor(report, "thread_wait", count)),
    ]


def _growth(report: Report) -> list[str]:
    if not report.growth:
        return []
    table: Table = [["", "first turns", "last turns", "first turns", "last turns"]]
    for one in report.growth:
        times = [milliseconds(seconds) + " ms" for seconds in (one.p50_seconds[0], one.p50_seconds[-1])]
        sizes = [f"{grown / 1024:.0f} KiB" for grown in (one.bytes_per_turn[0], one.bytes_per_turn[-1])]
        table.append([report.sides[one.side], *times, *sizes])
    return [
        "## A long conversation",
        _text(
            f"One thread, {report.growth[0].turns[-1]} turns, each a question and an answer of {CHARACTERS}",
            f"characters: p50, and growth of the database a turn, of the first and the last {BLOCK}.",
            "A checkpoint stores each channel that changed as a whole, so that a conversation which only",
            "grows costs more with every turn, on every side: trim or summarise it, and let",
            "`checkpointer.ttl` keep only the latest checkpoint.",
        ),
        "![time and size of a turn](img/growth.svg)",
        markdown(table),
    ]


def _search(report: Report) -> list[str]:
    if not report.search:
        return []
    table: Table = [["search", "p50", "p95"]]
    for one in report.search:
        table.append([one.name, f"{milliseconds(one.p50_seconds)} ms", f"{milliseconds(one.p95_seconds)} ms"])
    title = f"## Search among {report.search[0].threads:,} threads"
    return [title, "The default engine, over the API, one request at a time.", markdown(table)]


def _drain(drain: Drain) -> list[str]:
    full, empty = median(drain.claim_p50_seconds[:1]), median(drain.claim_p50_seconds[-1:])
    return [
        f"## A queue {drain.runs:,} deep",
        _text(
            f"The default engine: filled over the API at {drain.create_per_second:.0f} runs a second while",
            f"nobody worked, then drained by one worker with {JOBS} slots at",
            f"{median(drain.per_second) or 0:.0f} runs a second, while Postgres logged every statement.",
            f"A claim takes Postgres {milliseconds(full)} ms when the queue is full and",
            f"{milliseconds(empty)} ms near its end. Wrong or missing results: {drain.wrong}.",
        ),
        "![rate and claims while the queue drains](img/queue.svg)",
    ]


def _profile(profile: Profile) -> list[str]:
    parts = [
        "## Profile",
        _text(
            f"`make bench PROFILE=1`, {profile.date}: the default engine and its client, thread + wait,",
            f"{profile.clients} clients, {profile.per_second:.0f} runs a second while py-spy looked on.",
            "Shares of the time in which Python code ran; flame graphs are in `.holdfast/bench`.",
        ),
    ]
    for name, packages in profile.packages.items():
        parts += [f"### {name.capitalize()}", _shares("package", packages)]
        parts.append(_shares("function", profile.functions[name]))
    rows = [
        [f"`{_short(cost.text)}`", f"{cost.per_run:.1f}", f"{cost.milliseconds_per_run:.2f}"]
        for cost in profile.statements
        if cost.per_run >= RAREST_STATEMENT
    ]
    told = (
        f"One client: {profile.statements_per_run:.1f} statements a run,",
        f"{profile.milliseconds_per_run:.1f} ms of Postgres' own time; the dearest first.",
    )
    return [*parts, "### Statements", _text(*told), markdown([["statement", "a run", "ms a run"], *rows])]


def _shares(kind: str, shares: list[Share]) -> str:
    rows = [[f"`{share.name}`", f"{share.own:.1%}", f"{share.with_callees:.1%}"] for share in shares]
    return markdown([[kind, "own", "with callees"], *rows])


def _short(text: str) -> str:
    clean = text.replace("|", "¦").replace("`", "'")
    return clean if len(clean) <= LONGEST_STATEMENT else clean[: LONGEST_STATEMENT - 1] + "…"
