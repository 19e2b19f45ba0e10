"""The engine's checkpointer under LangGraph itself, on a real Postgres; in memory is the oracle."""

from __future__ import annotations

import operator
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateSnapshot, interrupt

from langgraph_runtime_holdfast.database import Handle
from tests.contract.engine_pool import engine_pool
from tests.contract.engine_rows import insert_run
from tests.contract.engines import Services

# Values that JSON does not hold, or not exactly; a checkpoint must give them back as they were.
AWKWARD: list[Any] = [
    *(True, 0, -7, 2**80, 1.0, 0.1, 1e300, -0.0, float("inf")),
    *("", "plain", "a\x00b", "\u2028 line", "x" * 5000, b"\x00\xff", {"a"}),
]


class State(TypedDict, total=False):
    """What the graphs of these tests keep."""

    log: Annotated[list[str], operator.add]
    answer: Any


@pytest.fixture(scope="module")
def database_uri(services: Services) -> str:
    """A database of this module."""
    return services.make_database("saver")


@pytest.fixture
async def handle(database_uri: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Handle]:
    """The engine's pool in this test's loop."""
    async with engine_pool(database_uri, monkeypatch) as opened:
        yield opened


def _saver() -> BaseCheckpointSaver[str]:
    from langgraph_runtime_holdfast.checkpoint import Checkpointer

    return Checkpointer()


def _ask(state: State) -> State:
    answer = interrupt("sure?")
    return {"log": ["asked"], "answer": answer}


def _inner(saver: BaseCheckpointSaver[str] | None = None) -> CompiledStateGraph[State]:
    graph = StateGraph(State)
    graph.add_node("ask", _ask)
    graph.add_edge(START, "ask")
    return graph.compile(checkpointer=saver)


def _outer(saver: BaseCheckpointSaver[str]) -> CompiledStateGraph[State]:
    """A node, a subgraph that interrupts, a node."""

    def before(state: State) -> State:
        return {"log": ["before"]}

    def after(state: State) -> State:
        return {"log": ["after"]}

    graph = StateGraph(State)
    graph.add_node("before", before)
    graph.add_node("inner", _inner())
    graph.add_node("after", after)
    graph.add_edge(START, "before")
    graph.add_edge("before", "inner")
    graph.add_edge("inner", "after")
    return graph.compile(checkpointer=saver)


def _config(thread_id: object, run_id: str | None = None, **configurable: Any) -> RunnableConfig:
    return {
        "configurable": {"thread_id": thread_id, **configurable},
        "metadata": {"run_id": run_id or str(uuid.uuid4())},
    }


def _seen(snapshot: StateSnapshot) -> dict[str, Any]:
    """What a caller sees of a state, without the ids that differ from saver to saver."""
    return {
        "values": snapshot.values,
        "next": snapshot.next,
        "interrupts": [each.value for each in snapshot.interrupts],
        "tasks": [(task.name, task.error, task.result) for task in snapshot.tasks],
        "step": (snapshot.metadata or {}).get("step"),
        "source": (snapshot.metadata or {}).get("source"),
    }


async def _rows(handle: Handle, thread_id: object) -> list[dict[str, Any]]:
    """Every row that a thread has in the checkpointer's tables."""
    rows: list[dict[str, Any]] = []
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        rows += await handle.fetch(
            f"SELECT to_jsonb(t) - 'thread_id' AS row FROM {table} t WHERE thread_id = %s ORDER BY 1",  # noqa: S608
            [str(thread_id)],
        )
    return rows


async def test_runs_as_in_memory(handle: Handle) -> None:
    """Interrupt, resume, history, fork and update give what they give in memory."""

    async def story(saver: BaseCheckpointSaver[str]) -> list[dict[str, Any]]:
        graph = _outer(saver)
        config = _config(str(uuid.uuid4()))
        told: list[dict[str, Any]] = []
        await graph.ainvoke({"log": ["start"]}, config)
        told.append(_seen(await graph.aget_state(config, subgraphs=True)))
        await graph.ainvoke(Command(resume="yes"), config)
        told += [_seen(each) async for each in graph.aget_state_history(config)]
        history = [each async for each in graph.aget_state_history(config)]
        await graph.ainvoke(None, next(each for each in history if each.next == ("before",)).config)
        told.append(_seen(await graph.aget_state(config)))
        await graph.aupdate_state(config, {"log": ["mended"]}, as_node="inner")
        await graph.ainvoke(None, config)
        told += [_seen(each) async for each in graph.aget_state_history(config, limit=3)]
        return told

    assert await story(_saver()) == await story(InMemorySaver())


async def test_gives_awkward_values_back(handle: Handle) -> None:
    """No value fails the run or comes back changed, alone in a channel or inside a list."""
    graph = _inner(_saver())
    for value in [*AWKWARD, AWKWARD]:
        config = _config(uuid.uuid4())
        await graph.ainvoke({"log": []}, config)
        await graph.ainvoke(Command(resume=value), config)
        back = (await _inner(_saver()).aget_state(config)).values["answer"]
        assert repr(back) == repr(value)
        assert type(back) is type(value)


async def test_rollback_of_a_resume_leaves_the_thread_as_before(handle: Handle) -> None:
    """Also the answer, and what the resumed run wrote onto the checkpoint of the first, are gone."""
    thread_id, first, second = (str(uuid.uuid4()) for _ in range(3))
    graph = _outer(_saver())
    await graph.ainvoke({"log": ["start"]}, _config(thread_id, first))
    before = await _rows(handle, thread_id)
    await graph.ainvoke(Command(resume="yes"), _config(thread_id, second))
    await insert_run(handle, thread_id, "running", run_id=second)
    assert len(await _rows(handle, thread_id)) > len(before)

    await _saver().adelete_for_runs([second])

    assert await _rows(handle, thread_id) == before
    state = await graph.aget_state(_config(thread_id))
    assert state.next == ("inner",)
    assert [each.value for each in state.interrupts] == ["sure?"]
    assert (await graph.ainvoke(Command(resume="no"), _config(thread_id)))["answer"] == "no"


async def test_copy_is_whole_and_separate(handle: Handle) -> None:
    """A copy, subgraphs included, goes on by itself after the source is deleted; prune keeps its state."""
    source, target = str(uuid.uuid4()), str(uuid.uuid4())
    graph = _outer(_saver())
    await graph.ainvoke({"log": ["start"]}, _config(source))
    seen = _seen(await graph.aget_state(_config(source), subgraphs=True))

    await _saver().acopy_thread(source, target)
    await _saver().adelete_thread(source)

    assert await _rows(handle, source) == []
    assert _seen(await graph.aget_state(_config(target), subgraphs=True)) == seen
    await _saver().aprune([target], strategy="keep_latest")
    assert len([each async for each in graph.aget_state_history(_config(target))]) == 1
    done = await graph.ainvoke(Command(resume="yes"), _config(target))
    assert done["log"] == ["start", "before", "start", "before", "asked", "after"]


async def test_lost_lease_saves_nothing(handle: Handle) -> None:
    """A worker whose run went elsewhere, or was deleted, fails at its next write and leaves nothing."""
    from langgraph_runtime_holdfast.ops import lease as leases

    thread_id, run_id = str(uuid.uuid4()), str(uuid.uuid4())
    await insert_run(handle, thread_id, "running", run_id=run_id, token=2)

    def work_under(token: int) -> Any:
        held = leases.Lease(uuid.UUID(run_id), uuid.UUID(thread_id), token, attempt=1)
        return leases._current.set(held)

    async def work() -> None:
        await _inner(_saver()).ainvoke({"log": ["start"]}, _config(thread_id, run_id))

    work_under(token=1)
    with pytest.raises(leases.LeaseLostError):
        await work()
    assert await _rows(handle, thread_id) == []
    work_under(token=2)
    await work()
    before = await _rows(handle, thread_id)
    assert before
    await handle.execute("DELETE FROM thread WHERE thread_id = %s", [thread_id])
    with pytest.raises(leases.LeaseLostError):
        await work()
    assert await _rows(handle, thread_id) == before


async def test_metadata_keeps_the_state_and_not_the_request(handle: Handle) -> None:
    """What the caller configured is found in the metadata; who asked is not."""
    thread_id = uuid.uuid4()
    config = _config(
        thread_id, "r", model="m", nested={"a": [1]}, langgraph_auth_user=object(), langgraph_request_id="q"
    )
    await _inner(_saver()).ainvoke({"log": ["start"]}, config)
    saved = await _saver().aget_tuple({"configurable": {"thread_id": thread_id}})
    assert saved is not None
    assert saved.config["configurable"]["thread_id"] == str(thread_id)
    kept = dict(saved.metadata)
    assert (kept["run_id"], kept["model"], kept["nested"]) == ("r", "m", {"a": [1]})
    assert not {"langgraph_auth_user", "langgraph_request_id", "checkpoint_ns"} & kept.keys()
    listed = [
        each
        async for each in _saver().alist({"configurable": {"thread_id": thread_id}}, filter={"model": "m"})
    ]
    assert len(listed) == 2
