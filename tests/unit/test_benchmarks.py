"""The benchmark itself: wrong answers are seen, figures boil down to what they say, paths stay private."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import Answer, WrongAnswerError, check
from benchmarks.compare import MACHINE, summarise
from benchmarks.goals import judge
from benchmarks.graphs.three import graph
from benchmarks.load import Clock
from benchmarks.measurement import Load, Seen
from benchmarks.plots import write_plots
from benchmarks.results import Measured, Report
from benchmarks.stacks import STANDARD_LIBRARY, shares
from benchmarks.statement_log import read_statements
from benchmarks.tables import disturbance

LOAD = Load("http://nowhere", "thread_wait", clients=4, seconds=0.3, warm_up_seconds=0.1)


async def test_the_graph_gives_the_answer_that_is_checked_for() -> None:
    check(await graph.ainvoke({"number": 20}), 20)


@pytest.mark.parametrize(
    "answer",
    [
        {"total": 42, "visited": ["first", "second", "third"]},
        {"total": 41, "visited": ["first", "third"]},
        {"total": 41, "visited": ["first", "second", "second", "third"]},
        {"__error__": {"error": "ValueError"}},
        {},
        None,
    ],
)
def test_a_wrong_answer_is_refused(answer: Any) -> None:
    with pytest.raises(WrongAnswerError):
        check(answer, 20)


async def test_wrong_and_failed_requests_are_counted_and_told_and_are_no_throughput() -> None:
    asked: list[int] = []

    async def request(number: int) -> Answer:
        asked.append(number)
        if number % 3 == 1:
            raise WrongAnswerError(f"for {number}")
        if number % 3 == 2:
            raise ConnectionError("refused")
        return Answer()

    seen = await Clock(LOAD, [request] * LOAD.clients).run()

    assert seen.wrong == sum(number % 3 == 1 for number in asked) > 0
    assert seen.failed == sum(number % 3 == 2 for number in asked) > 0
    assert len(seen.latencies_seconds) <= seen.completed + LOAD.clients
    assert 0 < seen.completed <= len(asked) - seen.wrong - seen.failed
    assert "WrongAnswerError: for 1" in seen.faults


def test_a_goal_is_judged_by_its_worst_round() -> None:
    rows = [
        *(_measured("shared", number, rate) for number, rate in ((1, 85), (2, 90), (3, 160))),
        *(_measured("dev", number, rate) for number, rate in ((1, 100), (2, 100), (3, 200))),
        *(_measured("isolated", number, 160) for number in (1, 2, 3)),
    ]

    outcomes = {(one.goal.other, one.goal.clients): one for one in judge(_report(rows))}

    assert outcomes["dev", 50].ratio == pytest.approx(0.8)
    assert outcomes["dev", 50].verdict == "met"
    assert outcomes["shared", 50].verdict == "met"
    assert outcomes["aegra", 50].verdict == "not measured"
    assert outcomes["bare", 1].ratio is None


def test_a_goal_that_is_missed_says_by_how_much() -> None:
    rows = [_measured("shared", 1, 60), _measured("dev", 1, 100)]

    [missed] = [one for one in judge(_report(rows)) if one.goal.other == "dev" and one.goal.clients == 50]

    assert missed.verdict == "missed by 25%"


def test_what_else_keeps_the_machine_busy_is_told() -> None:
    load = Load("", "thread_wait", clients=50, seconds=2.0, warm_up_seconds=0.0)
    spent = {"server": 1.0, "client": 0.5, MACHINE: 2.5}

    row = summarise("dev", load, 1, Seen(seconds=2.0, completed=10), spent)

    assert row.other_cores == pytest.approx(0.5)
    assert "up to 0.5 cores" in disturbance(_report([row]))
    assert not disturbance(_report([_measured("dev", 1, 60)]))


def test_a_report_comes_back_as_it_was_and_its_plots_are_the_same_bytes(tmp_path: Path) -> None:
    report = _report([_measured("shared", 1, 60), _measured("dev", 1, 100)])
    report.write(tmp_path / "report.json")

    again = Report.read(tmp_path / "report.json")

    assert again is not None
    assert again == report
    [name] = write_plots(report, tmp_path / "one", [50])
    write_plots(again, tmp_path / "two", [50])
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_statement_log_adds_parsing_and_planning_to_the_execution_they_belong_to(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    log.write_text(
        "2026-01-01 00:00:00.001 UTC [7] LOG:  duration: 1.000 ms  parse <unnamed>: SELECT\n\t  1\n"
        "2026-01-01 00:00:00.002 UTC [8] LOG:  duration: 9.000 ms  statement: BEGIN\n"
        "2026-01-01 00:00:00.003 UTC [7] LOG:  duration: 0.500 ms  bind <unnamed>: SELECT\n\t  1\n"
        "2026-01-01 00:00:00.004 UTC [7] ERROR:  something else\n"
        "2026-01-01 00:00:00.005 UTC [7] LOG:  duration: 0.250 ms  execute <unnamed>: SELECT\n\t  1\n"
    )

    begin, select = read_statements(log)

    assert [begin.text, select.text] == ["BEGIN", "SELECT 1"]
    assert [begin.seconds, select.seconds] == pytest.approx([0.009, 0.00175])


def test_stacks_are_shared_out_by_package_without_the_paths_of_the_machine() -> None:
    lines = [
        "run (/home/kim/.venv/lib/python3.11/site-packages/uvicorn/server.py:1);"
        "select (/usr/lib/python3.11/selectors.py:2) 3",
        "run (/home/kim/.venv/lib/python3.11/site-packages/uvicorn/server.py:9);"
        "claim (/home/kim/holdfast/engine/langgraph_runtime_holdfast/queue.py:3) 1",
    ]

    packages = {one.name: (one.own, one.with_callees) for one in shares(lines, by_package=True)}
    functions = [one.name for one in shares(lines, by_package=False)]

    assert packages == {
        STANDARD_LIBRARY: (0.75, 0.75),
        "langgraph_runtime_holdfast": (0.25, 0.25),
    }
    assert functions == ["select (selectors.py)", "claim (langgraph_runtime_holdfast/queue.py)"]


def _measured(side: str, number: int, rate: float) -> Measured:
    load = Load("", "thread_wait", clients=50, seconds=1.0, warm_up_seconds=0.0)
    return summarise(
        side, load, number, Seen(seconds=1.0, completed=int(rate), latencies_seconds=[1 / rate]), {}
    )


def _report(rows: list[Measured]) -> Report:
    sides = {"isolated": "holdfast", "dev": "in memory", "shared": "shared", "aegra": "Aegra", "bare": "bare"}
    return Report("2026-01-01", "a machine", {"langgraph": "1"}, sides, {}, 3, 1.0, rows)
