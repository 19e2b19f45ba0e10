"""One page of metrics of several processes, and what a loop's lag is."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from langgraph_runtime_holdfast.metrics.loop_lag import LoopLag
from langgraph_runtime_holdfast.metrics.shared import Shared, added, merged

PAGE = r"""# HELP ended_total Runs.
# TYPE ended_total counter
ended_total{graph="a{}\n",status="success"} %d
# HELP active Jobs.
# TYPE active gauge
active %d
# HELP pending Runs that wait.
# TYPE pending gauge
pending %d
"""


def test_pages_of_several_processes_are_one() -> None:
    text = merged({0: PAGE % (1, 2, 9), 3: PAGE % (4, 5, 8)}, here=3, once={"pending"})
    assert text.count("# TYPE ended_total counter") == 1
    assert text.count("# HELP") == 3
    samples = {
        (sample.name, sample.labels.get("worker"), sample.labels.get("graph")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples == {
        ("ended_total", "0", "a{}\n"): 1,
        ("ended_total", "3", "a{}\n"): 4,
        ("active", "0", None): 2,
        ("active", "3", None): 5,
        # The same in all of them: the one that answers says it, once.
        ("pending", None, None): 8,
    }


def test_figures_of_several_processes_are_added() -> None:
    def requests(path: str, count: int) -> dict[str, object]:
        return {"method": "GET", "path": path, "count": count}

    one = {"workers": {"max": 10, "active": 1}, "api": {"requests": [requests("/a", 1), requests("/b", 2)]}}
    two = {"workers": {"max": 10, "active": 3}, "api": {"requests": [requests("/a", 5)]}}
    assert added([one, two]) == {
        "workers": {"max": 20, "active": 4},
        "api": {"requests": [requests("/a", 6), requests("/b", 2)]},
    }


def test_a_process_that_ended_is_not_told_of_and_leaves_its_number(tmp_path: Path) -> None:
    first, second = Shared(tmp_path), Shared(tmp_path)
    assert (first.number, second.number) == (0, 1)
    second.write("text", {"workers": {"max": 1}})
    assert first.others() == {1: ("text", {"workers": {"max": 1}})}
    second._ending.set()
    os.close(second._lock)  # as the kernel does when it is killed
    assert (tmp_path / "1.json").exists()
    assert first.others() == {}
    third = Shared(tmp_path)
    assert third.number == 1
    assert first.others() == {}, "what its predecessor wrote is gone"


async def test_a_blocked_loop_is_late_while_it_is_blocked_and_a_while_after() -> None:
    lag = LoopLag()
    watching = asyncio.create_task(lag.watch())
    await asyncio.sleep(0)
    assert lag.seconds() < 0.1
    during: list[float] = []

    def look() -> None:
        time.sleep(0.8)
        during.append(lag.seconds())

    looking = asyncio.create_task(asyncio.to_thread(look))
    await asyncio.sleep(0)
    time.sleep(1.0)  # noqa: ASYNC251 - the fault
    await looking
    assert during[0] > 0.4
    await asyncio.sleep(0)
    assert lag.seconds() > 0.5
    watching.cancel()
