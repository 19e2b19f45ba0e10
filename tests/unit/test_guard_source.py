"""What the guard reads from an agent's source and declarations: pauses, routers, schemas, copies, keys."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
import typing_extensions
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from graphs.kit.effects import once
from graphs.kit.guard import Violation, check_graph, check_manifest
from tests.unit.idiomatic_agent import graph as idiomatic

SENT: list[str] = []


class State(typing_extensions.TypedDict, total=False):
    text: str


def make(step: Any) -> Any:
    """Compile a graph of one node."""
    return StateGraph(State).add_node("step", step).add_edge(START, "step").compile()


# --- effects before a pause


async def mail(text: str) -> None:
    await asyncio.open_connection(text)


def ask(text: str) -> str:
    answer: str = interrupt(text)
    return answer


async def awaits_first(state: State) -> State:
    await mail(state["text"])
    return {"text": interrupt("sent?")}


async def asks_a_model_first(state: State, runtime: Runtime[None]) -> State:
    answer = await FakeListChatModel(responses=["a"]).ainvoke(state["text"])
    return {"text": ask(str(answer.content))}


async def stores_first(state: State, runtime: Runtime[None]) -> State:
    if runtime.store is not None:
        await runtime.store.aput(("a",), "b", {})
    return {"text": interrupt("stored?")}


async def changes_first(state: State) -> State:
    SENT.append(state["text"])
    return {"text": interrupt("kept?")}


def mailing(node: Any) -> Any:
    @functools.wraps(node)
    async def wrapped(state: State) -> Any:
        await mail("node")
        return await node(state)

    return wrapped


@mailing
async def wrapped_in_one(state: State) -> State:
    return {"text": interrupt("wrapped?")}


async def between_two(state: State) -> State:
    first = interrupt("one")
    await asyncio.gather(mail(first), mail(first))
    return {"text": interrupt("two")}


async def in_a_loop(state: State) -> State:
    for each in state["text"]:
        if interrupt(each):
            await mail(each)
    return {}


async def fails_late(state: State) -> State:
    try:
        await mail(state["text"])
    except OSError:
        return {"text": interrupt("again?")}
    return state


@tool
async def transfer(text: str) -> str:
    """Pay."""
    from langgraph.types import interrupt as pause

    try:
        await mail(text)
    except OSError:
        return str(pause("again?"))
    return str(pause("paid?"))


@pytest.mark.parametrize(
    ("graph", "named"),
    [
        (make(awaits_first), ["asyncio.open_connection(...)", "comes before interrupt"]),
        (make(asks_a_model_first), ["ainvoke(...)"]),
        (make(stores_first), ["runtime.store.aput(...)"]),
        (make(changes_first), ["SENT.append(...)"]),
        (make(wrapped_in_one), ["open_connection(...)"]),
        (make(between_two), ["open_connection(...)"]),
        (make(in_a_loop), ["open_connection(...)"]),
        (make(fails_late), ["open_connection(...)"]),
        (create_agent(FakeListChatModel(responses=[]), [transfer]), ["node 'tools'", "open_connection(...)"]),
    ],
)
def test_effect_before_a_pause_is_named(graph: object, named: list[str]) -> None:
    found = check_graph("g", graph)
    assert {violation.rule for violation in found} == {"interrupt"}
    assert all(each in found[0].detail for each in named)
    assert f"{Path(__file__).name}:" in found[0].detail


async def pauses_first(state: State) -> State:
    answer = ask(state["text"])
    await mail(answer)
    return {"text": answer}


async def only_reads(state: State, runtime: Runtime[None]) -> State:
    found: object = await runtime.store.aget(("a",), "b") if runtime.store else None
    async with httpx.AsyncClient() as client:
        found = found or await client.get(state["text"])
    lines: list[str] = []
    lines.append(str(found))
    return {"text": interrupt(lines)}


async def on_another_path(state: State) -> State:
    if state["text"]:
        await mail(state["text"])
        return {}
    return {"text": interrupt("none?")}


async def once_first(state: State, runtime: Runtime[None]) -> State:
    async def send(key: str) -> dict[str, Any]:
        await mail(key)
        return {}

    await once(runtime, "mail", send)
    return {"text": interrupt("seen?")}


@pytest.mark.parametrize("step", [pauses_first, only_reads, on_another_path, once_first])
def test_pause_without_an_effect_before_it_passes(step: Any) -> None:
    assert check_graph("g", make(step)) == []


# --- routers


async def stay(state: State) -> State:
    return state


def test_lambda_router_is_named() -> None:
    def route(state: State) -> Literal["step", "__end__"]:
        return "__end__"

    def routed(router: Any, *ends: Any) -> object:
        graph = StateGraph(State).add_node("step", stay).add_edge(START, "step")
        return graph.add_conditional_edges("step", router, *ends).compile()

    for ends in ([], [[END]]):
        [violation] = check_graph("g", routed(lambda state: END, *ends))
        assert violation.rule == "router"
        assert "'step'" in violation.detail
    assert check_graph("g", routed(route)) == []


# --- the files of a project


def project(folder: Path, **files: str) -> Path:
    """Write `agents/<name>/<file>.py` for each `<name>__<file>`, and a manifest of their graphs."""
    for name, source in files.items():
        path = folder / "agents" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    names = dict.fromkeys(name.partition("__")[0] for name in files)
    graphs = {name: f"./agents/{name}/graph.py:graph" for name in names}
    manifest = folder / "langgraph.json"
    manifest.write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    return manifest


def only(manifest: Path) -> Violation:
    [violation] = check_manifest(manifest)
    return violation


GRAPH = """
from {typed_dict} import TypedDict
from langgraph.graph import START, StateGraph

class Part(TypedDict):
    size: int

class State(TypedDict):
    part: Part

async def step(state: State) -> State:
    return state

graph = StateGraph(State).add_node("step", step).add_edge(START, "step").compile()
"""
GOOD = GRAPH.format(typed_dict="typing_extensions")


@pytest.mark.skipif("sys.version_info >= (3, 12)", reason="both kinds of TypedDict have a schema there")
def test_schema_that_would_be_null_is_named(tmp_path: Path) -> None:
    found = check_manifest(project(tmp_path, old__graph=GRAPH.format(typed_dict="typing")))
    assert [violation.rule for violation in found] == ["schema", "schema"]
    assert "input schema is null: " in found[0].detail
    assert "Part, " in found[0].detail
    assert "State is a typing.TypedDict" in found[0].detail
    assert "typing_extensions" in found[0].cure
    settings = GOOD.replace("StateGraph(State)", "StateGraph(State, context_schema=Settings)").replace(
        "class Part", "import typing\n\nclass Settings(typing.TypedDict):\n    model: str\n\nclass Part"
    )
    assert "context schema is null" in only(project(tmp_path, new__graph=settings)).detail


@pytest.mark.parametrize(
    "line",
    [
        "from agents.first.tools import RATE, TAX",
        "import agents.first.tools",
        "from agents.first import tools",
    ],
)
def test_copy_that_imports_its_original_is_named(tmp_path: Path, line: str) -> None:
    files = {"first__graph": GOOD, "first__tools": "RATE = TAX = 1", "second__tools": "RATE = TAX = 2"}
    violation = only(project(tmp_path, **files, second__graph=f"{line}\n{GOOD}"))
    assert (violation.graph, violation.rule) == ("second", "copy")
    assert violation.detail == "second/graph.py:1 imports first/tools.py, a part of another agent"


def test_late_and_relative_imports_of_the_original_are_seen(tmp_path: Path) -> None:
    late = "def rate():\n    from ..first.tools import RATE\n    return RATE\n"
    manifest = project(
        tmp_path, first__graph=GOOD, first__tools="RATE = 1", second__graph=GOOD, second__tools=late
    )
    assert "second/tools.py:2 imports first/tools.py" in only(manifest).detail


def test_another_agents_graph_may_be_a_sub_agent(tmp_path: Path) -> None:
    whole = "from agents.first.graph import graph as other\n" + GOOD
    assert check_manifest(project(tmp_path, first__graph=GOOD, second__graph=whole)) == []


# --- models without their key

MODEL = """
from langchain.agents import create_agent
from langchain.chat_models import init_chat_model

{definition}
"""
AT_IMPORT = MODEL.format(definition="graph = create_agent(init_chat_model('openai:none'), [])")
FACTORY = MODEL.format(definition="def graph():\n    return create_agent(init_chat_model('openai:none'), [])")


def test_cure_of_a_model_built_at_import_is_a_factory_that_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    violation = only(project(tmp_path, model__graph=AT_IMPORT))
    assert violation.rule == "load"
    assert "OPENAI_API_KEY" in violation.detail
    assert "def graph() -> " in violation.cure
    assert check_manifest(project(tmp_path, model__graph=FACTORY)) == []
    assert "OPENAI_API_KEY" not in os.environ, "what was made up is taken back"


# --- what people would write today


def test_idiomatic_agent_passes() -> None:
    assert check_graph("g", idiomatic) == []
