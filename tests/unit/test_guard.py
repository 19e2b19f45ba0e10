"""Each rule of the guard: bad graphs that it must name, and good twins that it must let pass."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import psycopg_pool
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call, wrap_tool_call
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from langgraph_sdk.runtime import ServerRuntime
from psycopg_pool import AsyncConnectionPool as Renamed
from typing_extensions import TypedDict

from graphs.kit.guard import Violation, check_graph, check_manifest, main

DSN = "postgresql://nobody@127.0.0.1:1/none"


class State(TypedDict, total=False):
    text: str


async def node(state: State) -> State:
    return state


def sync_node(state: State) -> State:
    return state


def make(step: Any = node, **compiled: Any) -> Any:
    """Compile a graph of one node."""
    return StateGraph(State).add_node("step", step).add_edge(START, "step").compile(**compiled)


def rules(obj: object) -> list[str]:
    return [violation.rule for violation in check_graph("g", obj)]


# --- persistence


@pytest.mark.parametrize(
    ("graph", "named"),
    [
        (make(checkpointer=InMemorySaver()), "checkpointer=InMemorySaver"),
        (make(checkpointer=True), "checkpointer=True"),
        (make(checkpointer=False), "checkpointer=False"),
        (make(store=InMemoryStore()), "store=InMemoryStore"),
        (make(make(checkpointer=InMemorySaver())), "subgraph g.step: checkpointer=InMemorySaver"),
        (make(make(make(store=InMemoryStore()))), "subgraph g.step.step: store=InMemoryStore"),
    ],
)
def test_compiled_in_persistence_is_named(graph: object, named: str) -> None:
    [violation] = check_graph("g", graph)
    assert violation.rule == "persistence"
    assert named in violation.detail


@pytest.mark.parametrize("flag", [None, True, False])
def test_subgraph_may_inherit_or_decline_its_parents_checkpointer(flag: bool | None) -> None:
    assert check_graph("g", make(make(checkpointer=flag))) == []


# --- sync nodes


class AsyncCallable:
    async def __call__(self, state: State) -> State:
        return state


class SyncCallable:
    def __call__(self, state: State) -> State:
        return state


def sync_function(text: str) -> str:
    """Answer."""
    return text


async def async_function(text: str) -> str:
    """Answer."""
    return text


async def jump(state: State) -> Command[str]:
    return Command(goto=END)


def sync_tool() -> BaseTool:
    return StructuredTool.from_function(sync_function, name="look_up")


def async_tool() -> BaseTool:
    return StructuredTool.from_function(coroutine=async_function, name="look_up")


def sync_wrapper(request: Any, execute: Any) -> Any:
    return execute(request)


@wrap_model_call
def sync_around_the_model(request: Any, handler: Any) -> Any:
    return handler(request)


@wrap_tool_call
def sync_around_a_tool(request: Any, handler: Any) -> Any:
    return handler(request)


@wrap_model_call
async def async_around_the_model(request: Any, handler: Any) -> Any:
    return await handler(request)


def agent_with(*middleware: Any) -> Any:
    return create_agent(FakeListChatModel(responses=[]), [async_tool()], middleware=middleware)


SYNC_SUBGRAPH = make(sync_node)
TEAM = {"sub": SYNC_SUBGRAPH}


async def node_that_calls_a_subgraph(state: State) -> Any:
    return await ask_the_team("sub", state)


async def ask_the_team(name: str, state: State) -> Any:
    return await TEAM[name].ainvoke(state)


@entrypoint()
def sync_workflow(text: str) -> str:
    return text


@entrypoint()
async def async_workflow(text: str) -> str:
    return text


@pytest.mark.parametrize(
    ("graph", "named"),
    [
        (make(sync_node), "node 'step': sync_node is sync"),
        (make(functools.partial(sync_node)), "sync_node is sync"),
        (make(SyncCallable()), "SyncCallable is sync"),
        (make(RunnableLambda(node) | RunnableLambda(sync_node)), "sync_node is sync"),
        (make(RunnableLambda(sync_node).with_retry()), "sync_node is sync"),
        (make(ToolNode([async_tool(), sync_function])), "tool 'sync_function' has no coroutine"),
        (make(ToolNode([async_tool()], wrap_tool_call=sync_wrapper)), "wrap_tool_call"),
        (make(make(sync_node)), "subgraph g.step: node 'step': sync_node"),
        (make(node_that_calls_a_subgraph), "subgraph g.step: node 'step': sync_node"),
        (create_agent(FakeListChatModel(responses=[]), [sync_tool()]), "tool 'look_up' has no coroutine"),
        (
            agent_with(async_around_the_model, sync_around_the_model),
            "'sync_around_the_model' has no awrap_model",
        ),
        (agent_with(sync_around_a_tool), "'sync_around_a_tool' has no awrap_tool_call"),
        (sync_workflow, "node 'sync_workflow': "),
    ],
)
def test_sync_node_is_named(graph: object, named: str) -> None:
    [violation] = check_graph("g", graph)
    assert violation.rule == "sync-node"
    assert named in violation.detail


@pytest.mark.parametrize(
    "graph",
    [
        make(functools.partial(node)),
        make(AsyncCallable()),
        make(jump),
        make(RunnableLambda(node) | RunnableLambda(node).with_retry()),
        make(ToolNode([async_tool(), async_function])),
        make(ToolNode([async_tool()], awrap_tool_call=sync_wrapper)),
        make(make(node)),
        create_agent(FakeListChatModel(responses=[]), [async_tool()]),
        agent_with(async_around_the_model),
        async_workflow,
        StateGraph(State).add_node("step", node).add_edge(START, "step"),
    ],
)
def test_async_graph_passes(graph: object) -> None:
    assert check_graph("g", graph) == []


def test_routing_function_may_be_sync() -> None:
    def route(state: State) -> str:
        return END

    graph = StateGraph(State).add_node("step", node).add_edge(START, "step")
    assert check_graph("g", graph.add_conditional_edges("step", route).compile()) == []


# --- factories


async def opens_a_pool() -> Any:
    pool = psycopg_pool.AsyncConnectionPool(DSN, open=False)
    await pool.open(wait=True)
    return make()


@asynccontextmanager
async def closes_its_pool() -> AsyncIterator[Any]:
    async with Renamed(DSN):
        yield make()


def opens_through_a_helper(config: RunnableConfig) -> Any:
    return make(_Helper(config).step)


class _Helper:
    def __init__(self, config: RunnableConfig) -> None:
        self.connection = psycopg.Connection.connect(DSN)

    async def step(self, state: State) -> State:
        return state


async def opens_in_a_branch(config: RunnableConfig) -> Any:
    if config["configurable"].get("tenant"):
        from psycopg_pool import NullConnectionPool as Hidden

        Hidden(DSN)
    return make()


async def opens_out_of_sight() -> Any:
    cls = vars(psycopg_pool)["Async" + "ConnectionPool"]
    try:
        cls(DSN)
    except Exception:
        return None
    return make()


@pytest.mark.parametrize(
    ("factory", "named"),
    [
        (opens_a_pool, "psycopg_pool.AsyncConnectionPool(...) at test_guard.py:"),
        (closes_its_pool, "AsyncConnectionPool(...)"),
        (opens_through_a_helper, "psycopg.Connection.connect(...)"),
        (opens_in_a_branch, "NullConnectionPool(...)"),
        (opens_out_of_sight, "opens AsyncConnectionPool on each call"),
    ],
)
def test_factory_that_opens_a_pool_is_named(factory: Callable[..., Any], named: str) -> None:
    [violation] = check_graph("g", factory)
    assert violation.rule == "pool-per-call"
    assert named in violation.detail


def test_guard_restores_what_it_watches() -> None:
    check_graph("g", opens_a_pool)
    assert psycopg_pool.AsyncConnectionPool(DSN, open=False).closed


async def plain_factory() -> Any:
    return make()


@asynccontextmanager
async def context_factory(config: RunnableConfig) -> AsyncIterator[Any]:
    assert config["configurable"] is not None
    yield make()


def runtime_factory(config: RunnableConfig, runtime: ServerRuntime[None]) -> Any:
    assert runtime.access_context in ("threads.create_run", "assistants.read")
    return make()


@pytest.mark.parametrize("factory", [plain_factory, context_factory, runtime_factory])
async def test_factory_that_opens_nothing_passes(factory: Callable[..., Any]) -> None:
    # In a running loop, as the platform's own checks may have one.
    assert check_graph("g", factory) == []


def test_the_graph_of_a_factory_is_checked() -> None:
    assert rules(lambda: make(sync_node, checkpointer=InMemorySaver())) == [
        "pool-per-call",
        "persistence",
        "sync-node",
    ]


def test_factory_that_the_server_cannot_call_is_named() -> None:
    def fails() -> Any:
        raise RuntimeError("no\nnetwork")

    def takes_three(one: Any, two: Any, three: Any) -> Any:
        return make()

    assert {each.detail for each in check_graph("g", fails)} == {
        "the factory raised RuntimeError: no network"
    }
    assert "(one, two, three)" in check_graph("g", takes_three)[0].detail
    assert rules(lambda: None) == ["load"]
    assert rules("text") == ["load"]


# --- the manifest and the command

GRAPH = """
from __future__ import annotations
from typing_extensions import TypedDict
from langgraph.graph import START, StateGraph

class Part(TypedDict):
    size: int

class State(TypedDict):
    text: str
    part: Part

async def step(state: State) -> State:
    return state

graph = StateGraph(State).add_node("step", step).add_edge(START, "step").compile()
"""


def manifest(folder: Path, graphs: object, **modules: str) -> Path:
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    path = folder / "langgraph.json"
    path.write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    return path


def only(path: Path) -> Violation:
    [violation] = check_manifest(path)
    return violation


def test_each_way_to_name_a_graph_passes(tmp_path: Path) -> None:
    paths = {"a": "./good.py:graph", "b": {"path": "guarded_by_module:graph", "description": "B"}}
    assert check_manifest(manifest(tmp_path, paths, good=GRAPH, guarded_by_module=GRAPH)) == []


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("from .state import State", "ImportError: attempted relative import"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def graph(:", "SyntaxError"),
        ("grph = 1", "exports no 'graph'"),
        ("graph = 1", "of type int, not a graph"),
    ],
)
def test_graph_that_cannot_be_loaded_is_named(tmp_path: Path, source: str, named: str) -> None:
    violation = only(manifest(tmp_path, {"a": "./bad.py:graph"}, bad=source))
    assert (violation.graph, violation.rule) == ("a", "load")
    assert named in violation.detail


@pytest.mark.parametrize(
    "entry", ["./missing.py:graph", "./text.md:graph", "no_such_module:graph", "./a.py", 1]
)
def test_entry_that_leads_nowhere_is_named(tmp_path: Path, entry: object) -> None:
    (tmp_path / "text.md").touch()
    assert only(manifest(tmp_path, {"a": entry})).rule == "load"


@pytest.mark.parametrize("text", [None, "{", "[]", '{"graphs": {}}', '{"graphs": 1}'])
def test_manifest_that_cannot_be_read_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "langgraph.json"
    if text is not None:
        path.write_text(text)
    assert only(path).graph == "langgraph.json"


def test_pool_at_import_is_named(tmp_path: Path) -> None:
    helper = (
        f"from psycopg_pool import AsyncConnectionPool\nPOOL = AsyncConnectionPool({DSN!r}, open=False)\n"
    )
    modules = {"guarded_pools": helper, "bad": f"{GRAPH}\nimport guarded_pools\n"}
    violation = only(manifest(tmp_path, {"a": "./bad.py:graph"}, **modules))
    assert violation.rule == "pool-per-call"
    assert "importing the graph opens AsyncConnectionPool" in violation.detail


def test_command_prints_a_line_for_each_graph_or_violation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = manifest(tmp_path, {"a": "./good.py:graph", "b": "./good.py:graph"}, good=GRAPH)
    assert main(["--config", str(good)]) == 0
    assert capsys.readouterr().out == "a: ok\nb: ok\n"

    sync = GRAPH.replace("async def", "def").replace("text: str", "text: str\n    lock: object | type[int]")
    bad = manifest(tmp_path, {"a": "./bad.py:graph", "b": "./good.py:graph"}, bad=sync)
    assert main(["--config", str(bad)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["a", "sync-node"], ["a", "state"]]
    assert all("Cure: " in line for line in lines)


def test_command_runs_as_a_module_without_a_traceback(tmp_path: Path) -> None:
    bad = manifest(tmp_path, {"a": "./bad.py:graph"}, bad="1 / 0")
    command = [sys.executable, "-m", "graphs.kit.guard", "--config", str(bad)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(
        "a: load: importing ./bad.py raised ZeroDivisionError: division by zero. Cure: "
    )
