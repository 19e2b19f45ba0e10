"""The projects agent, offline: figures checked against a textbook and closed forms, and every bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import beta

from graphs.projects.graph import graph

pytestmark = pytest.mark.usefixtures("no_blocking")

EXAMPLE = json.loads(
    (Path(__file__).parents[2] / "graphs" / "examples" / "projects.json").read_text(encoding="utf-8")
)


def task(task_id: str, days: tuple[float, float, float], *needs: str, **more: Any) -> dict[str, Any]:
    estimates = dict(zip(("optimistic_days", "likely_days", "pessimistic_days"), days, strict=True))
    return {"id": task_id, **estimates, "depends_on": list(needs), **more}


# The PERT example of operations management textbooks: 15 long, critical A-C-E-G-H.
TEXTBOOK = [
    task("A", (1, 2, 3)),
    task("B", (2, 3, 4)),
    task("C", (1, 2, 3), "A"),
    task("D", (2, 4, 6), "A", "B"),
    task("E", (1, 4, 7), "C"),
    task("F", (1, 2, 9), "C"),
    task("G", (3, 4, 11), "D", "E"),
    task("H", (1, 2, 3), "F", "G"),
]


async def plan(tasks: Any, text: str = "Plan this.", **more: Any) -> dict[str, Any]:
    """Ask the agent; the project starts on Monday 2026-03-02 unless `more` says otherwise."""
    state = {"messages": [("user", text)], "tasks": tasks, "start_date": "2026-03-02", **more}
    answer: dict[str, Any] = await graph.ainvoke(state)
    return answer


async def test_critical_path_of_the_textbook_example() -> None:
    answer = await plan(TEXTBOOK, "What is the critical path?")
    schedule = answer["result"]["schedule"]
    assert schedule["critical_path"] == ["A", "C", "E", "G", "H"]
    assert schedule["duration_days"] == 15
    rows = {row["id"]: row for row in schedule["tasks"]}
    slack = {task_id: row["slack_days"] for task_id, row in rows.items()}
    assert slack == {"A": 0, "B": 1, "C": 0, "D": 1, "E": 0, "F": 6, "G": 0, "H": 0}
    assert (rows["G"]["start_date"], rows["G"]["finish_date"]) == ("2026-03-12", "2026-03-18"), "days 9 to 13"
    assert schedule["finish_date"] == "2026-03-20", "15 working days end on the third Friday"
    assert list(answer["result"]) == ["schedule"], "the question asks for nothing else"
    assert "15 working days" in answer["messages"][-1].text


@pytest.mark.parametrize(
    ("days", "finish"), [(4, "2026-03-05"), (5, "2026-03-06"), (5.5, "2026-03-09"), (6, "2026-03-09")]
)
async def test_weekends_are_not_worked(days: float, finish: str) -> None:
    answer = await plan([task("A", (days, days, days))], "critical path")
    assert answer["result"]["schedule"]["finish_date"] == finish


async def test_one_task_finishes_as_its_beta_distribution_says() -> None:
    answer = await plan(
        [task("A", (2, 4, 12))], "What is the chance to finish by 2026-03-06?", deadline="2026-03-09"
    )
    finish = answer["result"]["finish"]
    exact = beta(1 + 4 * 0.2, 1 + 4 * 0.8, loc=2, scale=10)
    for name, level in finish["percentiles"].items():
        assert level["days"] == pytest.approx(exact.ppf(int(name[1:]) / 100), abs=0.15), name
    assert {"P50", "P80", "P95"} <= set(finish["percentiles"])
    exactly = {"2026-03-06": exact.cdf(5), "2026-03-09": exact.cdf(6)}
    assert finish["probabilities"] == pytest.approx(exactly, abs=0.015)


async def test_risks_are_the_tasks_that_move_the_finish() -> None:
    tasks = [
        task("left", (2, 5, 14)),
        task("right", (2, 5, 14)),
        task("short", (1, 1, 2)),
        task("fixed", (3, 3, 3), "left", "right", "short"),
    ]
    finish = (await plan(tasks, "Which risks matter?"))["result"]["finish"]
    assert {row["id"] for row in finish["risks"]} == {"left", "right"}
    for row in finish["risks"]:
        assert row["criticality_index"] == pytest.approx(0.5, abs=0.02), "the two are alike"
        assert 0.5 < row["correlation"] < 0.9
    one = beta(2, 4, loc=2, scale=12)
    # The later of two alike: P(max ≤ x) = F(x)², so its P80 is F⁻¹(√0.8).
    assert finish["percentiles"]["P80"]["days"] == pytest.approx(3 + one.ppf(0.8**0.5), abs=0.15)


async def test_example_gives_everything_twice_the_same_and_as_json() -> None:
    first, second = await graph.ainvoke(EXAMPLE), await graph.ainvoke(EXAMPLE)
    assert first["problem"] is None
    assert set(first["result"]) == {"schedule", "finish", "gantt"}
    assert json.dumps(first["result"], allow_nan=False) == json.dumps(second["result"])
    bars, lines = first["result"]["gantt"]["layer"]
    assert len(bars["data"]["values"]) == len(EXAMPLE["tasks"])
    assert {row["line"] for row in lines["data"]["values"]} == {"deadline", "P80"}


GOOD = task("A", (1, 2, 3))


@pytest.mark.parametrize(
    ("tasks", "more", "code", "says"),
    [
        ([task("A", (1, 2, 3), "B"), task("B", (1, 2, 3), "A")], {}, "cyclic_tasks", "A → B → A"),
        ([task("A", (1, 2, 3), "A")], {}, "cyclic_tasks", "A → A"),
        ([task("A", (1, 2, 3), "a")], {}, "invalid_input", "'a', which is no task"),
        ([GOOD, GOOD], {}, "invalid_input", "2 tasks have the id 'A'"),
        ([task("A", (3, 2, 9))], {}, "invalid_input", "tasks.0: optimistic_days ≤ likely_days"),
        ([task("A", (-1, 2, 3))], {}, "invalid_input", "optimistic_days"),
        ([task("A", (1, 2, float("nan")))], {}, "invalid_input", "finite"),
        ([task("A", (1, 2, 3), colour="red")], {}, "invalid_input", "colour"),
        ([], {}, "invalid_input", "at least 1"),
        ("A then B", {}, "invalid_input", "tasks"),
        (None, {}, "invalid_input", "tasks: Field required"),
        ([task(str(n), (1, 2, 3)) for n in range(501)], {}, "invalid_input", "500"),
        ([GOOD], {"simulations": 20_000}, "invalid_input", "simulations"),
        ([GOOD], {"start_date": None}, "invalid_input", "start_date: Field required"),
        ([GOOD], {"start_date": "next Monday"}, "invalid_input", "start_date: Input should be a valid date"),
        ([GOOD], {"deadline": "2026-02-27"}, "invalid_input", "2026-02-27 lies before"),
        ([GOOD], {"text": "Probability by 2026-02-31?"}, "invalid_date", "2026-02-31"),
        ([GOOD], {"text": "x" * 1_000_000}, "prompt_too_long", "1,000,000"),
    ],
)
async def test_bad_input_is_answered(tasks: Any, more: dict[str, Any], code: str, says: str) -> None:
    answer = await plan(tasks, **more)
    problem = answer["problem"]
    assert problem["code"] == code, problem
    assert says in problem["message"] + problem["cure"], problem
    assert answer["result"] == {}
    assert problem["message"] in answer["messages"][-1].text
