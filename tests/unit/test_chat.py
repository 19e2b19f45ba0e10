"""The agents as a chat interface meets them: a plain question, and data that comes with the message."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from graphs.analytics.graph import graph as analytics
from graphs.formulation.graph import graph as formulation
from graphs.kit.context import Context
from graphs.kit.datafolder import EXAMPLES
from graphs.printing.graph import graph as printing
from graphs.projects.graph import graph as projects
from graphs.support.graph import graph as support
from graphs.trials.graph import graph as trials

pytestmark = pytest.mark.usefixtures("no_blocking")

FILES = {path.name: path.read_bytes() for path in EXAMPLES.iterdir()}
WITH_DATA: dict[str, Any] = {
    "analytics": analytics,
    "formulation": formulation,
    "printing": printing,
    "projects": projects,
    "trials": trials,
}


async def say(agent: str, *content: Any) -> dict[str, Any]:
    state = {"messages": [{"role": "user", "content": content[0] if len(content) == 1 else list(content)}]}
    answer: dict[str, Any] = await WITH_DATA[agent].ainvoke(state)
    return answer


def attached(name: str, content: bytes) -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    return {"type": "file", "base64": data, "mime_type": "text/plain", "metadata": {"filename": name}}


@pytest.mark.parametrize("agent", WITH_DATA)
async def test_a_plain_question_is_told_what_to_attach_by_an_example_that_works(agent: str) -> None:
    told = await say(agent, "What can you do for me?")
    assert told["problem"]["code"].startswith("missing_")
    said = told["messages"][-1].text
    assert "ttach" in said
    assert "\n" not in said
    sent = json.loads(said[said.index("{") :])
    answer = await WITH_DATA[agent].ainvoke(sent | {"messages": [{"role": "user", "content": "Go on."}]})
    assert answer["problem"] is None
    assert answer["result"]


@pytest.mark.parametrize("agent", ["formulation", "projects", "trials"])
async def test_json_may_be_attached_pasted_or_named(agent: str) -> None:
    file = FILES[f"{agent}.json"]
    question = {"type": "text", "text": "Work it out."}
    for answer in (
        await say(agent, question, attached("input.json", file)),
        await say(agent, f"Work it out:\n```json\n{file.decode()}\n```"),
        await say(agent, f"Work out {agent}.json, please."),
    ):
        assert answer["problem"] is None
        assert answer["result"]


async def test_a_table_or_a_part_may_be_attached_or_named() -> None:
    csv, stl = FILES["orders.csv"], FILES["bracket.stl"]
    question = {"type": "text", "text": "Average quantity by region"}
    state = await say("analytics", question, attached("orders.csv", csv))
    assert len(state["result"]["table"]["rows"]) == 4
    assert "[attached: orders.csv]" in state["messages"][0].text
    assert len(str(state["messages"][0].content)) < 200, "the bytes are not kept in the conversation"
    state = await say("analytics", "What is in orders.csv?")
    assert state["result"]["profile"]["rows"] == 120
    for answer in (
        await say("printing", {"type": "text", "text": "How large?"}, attached("bracket.stl", stl)),
        await say("printing", "How large is bracket.stl?"),
    ):
        assert list(answer["result"]) == ["inspection"]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_sub_agents_work_at_every_durability_and_keep_no_checkpoints(durability: Any) -> None:
    saver = InMemorySaver()
    agent = analytics.copy(update={"checkpointer": saver})
    config: Any = {"configurable": {"thread_id": "t"}}
    given = json.loads(FILES["analytics.json"])
    state = await agent.ainvoke(given, config, durability=durability)
    assert set(state["result"]) == {"profile", "table", "chart"}
    assert {each.config["configurable"]["checkpoint_ns"] async for each in saver.alist(config)} == {""}


@pytest.mark.parametrize(
    ("agent", "file", "code"),
    [
        ("projects", attached("plan.json", b"{"), "unreadable_file"),
        ("projects", attached("plan.json", b"[1]"), "unreadable_file"),
        ("projects", {**attached("plan.json", b""), "base64": "?"}, "unreadable_file"),
        ("analytics", attached("t.csv", b"\xff\xfe"), "unreadable_file"),
        ("printing", attached("part.stl", b"solid"), "unreadable_stl"),
    ],
)
async def test_an_attachment_of_no_use_is_answered(agent: str, file: dict[str, Any], code: str) -> None:
    answer = await say(agent, {"type": "text", "text": "Look at this."}, file)
    assert answer["problem"]["code"] == code
    assert answer["problem"]["message"] in answer["messages"][-1].text


@pytest.mark.parametrize("graph", [*WITH_DATA.values(), support], ids=[*WITH_DATA, "support"])
def test_the_schemas_can_be_drawn(graph: Any) -> None:
    assert "messages" in graph.get_input_jsonschema()["properties"]
    assert {"messages", "result", "problem", "usage"} <= graph.get_output_jsonschema()["properties"].keys()
    settings = graph.get_context_jsonschema()["properties"].keys()
    assert settings == Context.model_fields.keys()
    assert {"model", "temperature", "prompt", "max_tokens", "redact_pii"} <= settings
