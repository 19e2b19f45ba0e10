"""Later turns of a thread: what is named, attached or changed there is taken, or what is wrong is told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from graphs.analytics.graph import graph as analytics
from graphs.kit.context import Context
from graphs.kit.datafolder import EXAMPLES
from graphs.printing.graph import graph as printing
from graphs.projects.graph import graph as projects
from graphs.support.graph import graph as support
from tests.unit.test_chat import attached

PLAN: dict[str, Any] = json.loads((EXAMPLES / "projects.json").read_text())
STL = (EXAMPLES / "bracket.stl").read_bytes()

pytestmark = pytest.mark.usefixtures("no_blocking")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLDFAST_DATA_DIR", str(tmp_path))
    for name, days in (("a", 2), ("b", 30)):
        task = {"id": name, "optimistic_days": days, "likely_days": days, "pessimistic_days": days}
        plan = {"start_date": "2026-03-02", "tasks": [task], "simulations": 100}
        (tmp_path / f"{name}.json").write_text(json.dumps(plan))
    (tmp_path / "two.csv").write_text("city,price\nRome,7\nOslo,8\n")
    for name in ("one.stl", "two.stl"):
        (tmp_path / name).write_bytes(STL)
    return tmp_path


@dataclass
class Thread:
    graph: Any
    saver: InMemorySaver = field(default_factory=InMemorySaver)

    async def say(self, *content: Any, id: str | None = None, **keys: Any) -> dict[str, Any]:
        said = content[0] if len(content) == 1 else list(content)
        given = {**keys, "messages": [{"role": "user", "content": said, "id": id}] if content else []}
        config = {"configurable": {"thread_id": "t"}}
        state: dict[str, Any] = await self.graph.copy(update={"checkpointer": self.saver}).ainvoke(
            given, config
        )
        return state


async def test_what_a_turn_took_in_that_was_ended_is_not_taken_again() -> None:
    thread = Thread(projects)
    sent = {key: value for key, value in PLAN.items() if key != "messages"}
    ended = Thread(projects.copy(update={"interrupt_after_nodes": ["Intake.before_agent"]}), thread.saver)
    state = await ended.say("Schedule this, and compare it with b.json", **sent)
    assert "__interrupt__" in state or state["messages"][-1].type == "human"
    state = await thread.say("Please go on")
    assert (state["problem"], state["tasks"]) == (None, sent["tasks"])
    ended.saver = thread.saver
    await ended.say(json.dumps({"tasks": sent["tasks"][:1]}))
    state = await thread.say("No, all of it", **sent | {"deadline": "2026-12-01"})
    assert (state["problem"], state["tasks"]) == (None, sent["tasks"])
    state = await thread.say("Now schedule b.json")
    assert state["tasks"][0]["id"] == "b"


async def test_a_file_named_in_a_later_turn_takes_the_place_of_the_one_before() -> None:
    thread = Thread(projects)
    assert (await thread.say("Schedule a.json"))["tasks"][0]["id"] == "a"
    state = await thread.say("Now schedule b.json")
    assert (state["problem"], state["tasks"][0]["id"]) == (None, "b")
    state = await thread.say("Now schedule nosuch.json")
    assert state["problem"]["code"] == "file_not_found"
    state = await thread.say("And its critical path?")
    assert (state["problem"], state["tasks"][0]["id"]) == (None, "b"), "what was there stays"
    state = await thread.say("Schedule a.json by the deadline", deadline="2026-12-01")
    assert (state["problem"], state["tasks"][0]["id"], state["deadline"]) == (None, "a", "2026-12-01")
    sent = {key: value for key, value in PLAN.items() if key != "messages"}
    state = await thread.say("This is better than b.json", **sent)
    assert state["tasks"] == sent["tasks"], "what is sent whole is what is meant"


async def test_a_table_or_part_named_in_a_later_turn_takes_the_place_of_the_one_before() -> None:
    thread = Thread(analytics)
    state = await thread.say("Describe it", data={"csv": "a,b\n1,2\n"})
    assert state["result"]["profile"]["rows"] == 1
    state = await thread.say("And in two.csv?")
    assert (state["problem"], state["result"]["profile"]["rows"]) == (None, 2)
    state = await thread.say({"type": "text", "text": "And here?"}, attached("x.csv", b"a\n1\n2\n3\n"))
    assert state["result"]["profile"]["rows"] == 3
    assert (await thread.say("And in nosuch.csv?"))["problem"]["code"] == "file_not_found"
    thread = Thread(printing)
    await thread.say({"type": "text", "text": "How large?"}, attached("p.stl", STL))
    state = await thread.say("How large is two.stl?")
    assert (state["problem"], state["part"]) == (None, {"path": "two.stl"})


@pytest.mark.parametrize(
    ("graph", "content"),
    [
        (
            analytics,
            [
                {"type": "text", "text": "Average?"},
                attached("x.csv", b"a\n1\n"),
                attached("y.csv", b"a\n2\n"),
            ],
        ),
        (projects, [attached("x.json", b'{"tasks": []}'), attached("y.json", b'{"tasks": [1]}')]),
        (analytics, ["Compare one.csv with two.csv"]),
        (projects, ["Compare a.json with b.json"]),
        (printing, ["Which is larger, one.stl or two.stl?"]),
    ],
)
async def test_of_two_files_at_once_none_is_taken_in_silence(graph: Any, content: list[Any]) -> None:
    state = await Thread(graph).say(*content)
    assert state["problem"]["code"] == "several_files"


async def test_the_newest_of_the_names_that_a_broken_turn_left_is_meant() -> None:
    state = await projects.ainvoke({"messages": [("user", "Schedule a.json"), ("user", "No, b.json")]})
    assert state["tasks"][0]["id"] == "b"


async def test_a_changed_message_without_a_new_one_is_told() -> None:
    thread = Thread(projects)
    await thread.say("Schedule a.json", id="first")
    state = await thread.say("Schedule b.json", id="first")
    assert state["problem"]["code"] == "message_edited"
    assert state["messages"][-1].text.startswith("An earlier message was changed")
    assert (await thread.say("Go on."))["problem"] is None


@pytest.mark.parametrize("name", ["max_model_call", "redact_PII", "temprature", "sumarize_past_tokens"])
async def test_a_mistyped_setting_is_refused_and_a_foreign_one_is_not(name: str) -> None:
    given: Any = {"messages": [("user", "Schedule a.json")]}
    mistyped: Any = {name: 1}
    foreign: Any = {"user_id": "u", "thread_id": "t", "langgraph_auth_user_id": "u", "x-tenant": "t"}
    assert (await projects.ainvoke(given, {"configurable": foreign}, context=foreign))["problem"] is None
    with pytest.raises(ValueError, match=f"There is no setting '{name}'; there are model, "):
        await projects.ainvoke(given, context=mistyped)
    state = await projects.ainvoke(given, {"configurable": mistyped})
    assert state["problem"]["code"] == "unknown_setting"


@pytest.mark.parametrize(
    "wrong", [{"usage": 5}, {"usage": {"model_calls": "x"}}, {"result": "x"}, {"result": [1]}]
)
@pytest.mark.parametrize("graph", [projects, support], ids=["projects", "support"])
async def test_an_outcome_that_is_sent_in_another_shape_is_told(graph: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"leave '{next(iter(wrong))}' out of the input"):
        await graph.ainvoke({"messages": [("user", "Where is my order?")], **wrong})


async def test_what_looks_like_a_card_breaks_no_script_of_the_offline_model() -> None:
    table = {"csv": "who,n\na@b.de,4111111111111111\nc@d.de,4111111111111111\n"}
    given: Any = {"messages": [("user", "total n by who")], "data": table}
    state = await analytics.ainvoke(given, context=Context(redact_pii=True))
    assert state["problem"] is None
    assert len(state["result"]["table"]["rows"]) == 2
