"""What every agent builds on: the team builder, off-loading, effects, policies, the data folder."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolRuntime
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt

from graphs.kit.datafolder import read_data_file
from graphs.kit.effects import once
from graphs.kit.offline import Call, in_order, tool_outputs
from graphs.kit.offload import OffloadTimeoutError, in_process, in_thread
from graphs.kit.policies import is_transient
from graphs.kit.problems import InputProblem
from graphs.kit.state import AgentState
from graphs.kit.team import MAX_PROMPT_CHARACTERS, SubAgent, build_team, found


@tool
async def halve(value: int, runtime: ToolRuntime[Any, Any]) -> Command[Any]:
    """Halve an even number."""
    if value % 2:
        raise InputProblem("odd", f"{value} is odd.", "Send an even number.")
    return found(runtime, "half", {"value": value // 2}, f"half is {value // 2}")


def halving_team(value: int, tools: list[BaseTool] | None = None) -> CompiledStateGraph[Any, Any, Any, Any]:
    async def intake(state: dict[str, Any]) -> dict[str, Any]:
        return {}

    member = SubAgent(
        name="halver",
        purpose="halves numbers",
        prompt="Halve.",
        tools=tools or [halve],
        rule=in_order(Call("halve", value=value), then=lambda said: tool_outputs(said)["halve"]),
    )
    rule = in_order(
        Call("ask_halver", task="halve it"), then=lambda said: f"Done: {tool_outputs(said)['halve']}."
    )
    return build_team(AgentState, name="halving", intake=intake, prompt="Lead.", rule=rule, members=[member])


async def test_a_team_hands_over_computes_and_answers(no_blocking: None) -> None:
    state = await halving_team(8).ainvoke({"messages": [{"role": "user", "content": "please"}]})
    assert state["result"] == {"half": {"value": 4}}
    assert state["problem"] is None
    assert state["messages"][-1].text == "Done: half is 4."


async def test_each_tool_call_is_answered(no_blocking: None) -> None:
    # Real chat APIs refuse a conversation in which a tool call has no answer.
    state = await halving_team(7).ainvoke({"messages": [{"role": "user", "content": "please"}]})
    asked = {call["id"] for m in state["messages"] if isinstance(m, AIMessage) for call in m.tool_calls}
    answered = {m.tool_call_id for m in state["messages"] if isinstance(m, ToolMessage)}
    assert asked == answered


async def test_a_tools_problem_is_an_answer_and_the_next_turn_is_clean(no_blocking: None) -> None:
    graph = halving_team(7)
    graph.checkpointer = InMemorySaver()
    config: Any = {"configurable": {"thread_id": "t"}}
    state = await graph.ainvoke({"messages": [{"role": "user", "content": "one"}]}, config)
    assert state["problem"] == {"code": "odd", "message": "7 is odd.", "cure": "Send an even number."}
    assert state["messages"][-1].text == "7 is odd. Send an even number."

    better = halving_team(6)
    better.checkpointer = graph.checkpointer
    state = await better.ainvoke({}, config)  # data only, no message: still a turn of its own
    assert state["problem"] is None
    assert state["result"] == {"half": {"value": 3}}


async def test_a_prompt_of_a_megabyte_is_answered_and_not_kept(no_blocking: None) -> None:
    state = await halving_team(8).ainvoke({"messages": [{"role": "user", "content": "x" * 1_000_000}]})
    assert state["problem"]["code"] == "prompt_too_long"
    assert sum(len(message.text) for message in state["messages"]) < MAX_PROMPT_CHARACTERS


async def test_work_past_its_limit_is_ended(no_blocking: None) -> None:
    released = threading.Event()
    with pytest.raises(OffloadTimeoutError, match=r"wait did not finish within 0\.05 s"):
        await in_thread(released.wait, timeout_seconds=0.05)
    released.set()
    with pytest.raises(OffloadTimeoutError):
        await in_process(signal.pause, timeout_seconds=0.05)


async def test_a_cancelled_run_kills_its_process(no_blocking: None) -> None:
    pid = await in_process(os.getpid)  # the idle worker that the next call takes
    async with anyio.create_task_group() as group:
        group.start_soon(in_process, signal.pause)
        await anyio.sleep(0.1)
        group.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_an_effect_is_done_once_though_its_node_runs_twice() -> None:
    done: list[str] = []

    async def send(key: str) -> dict[str, Any]:
        done.append(key)
        return {"sent": len(done)}

    async def node(state: AgentState, runtime: Runtime[Any]) -> AgentState:
        receipt = await once(runtime, "send", send)
        interrupt("approve?")
        return {"result": receipt}

    builder = StateGraph(AgentState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    graph = builder.compile(checkpointer=InMemorySaver(), store=InMemoryStore())
    config: Any = {"configurable": {"thread_id": "t"}}
    await graph.ainvoke({"messages": []}, config)
    state = await graph.ainvoke(Command(resume="yes"), config)
    assert state["result"] == {"sent": 1}
    assert len(done) == 1


def http_error(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://localhost")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (httpx.ConnectError("refused"), True),
        (ConnectionResetError(), True),
        (http_error(503), True),
        (http_error(429), True),
        (http_error(400), False),
        (ValueError("bug"), False),
        (OffloadTimeoutError("f", 1.0), False),
    ],
)
def test_only_transient_faults_are_retried(error: Exception, transient: bool) -> None:
    assert is_transient(error) is transient
    wrapped = RuntimeError("wrapped by a client library")
    wrapped.__cause__ = error
    assert is_transient(wrapped) is transient


@pytest.fixture
def secret_beside_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "table.csv").write_bytes(b"a\n1\n")
    (tmp_path / "secret").write_bytes(b"s")
    (folder / "link").symlink_to(tmp_path / "secret")
    monkeypatch.setenv("HOLDFAST_DATA_DIR", str(folder))
    return tmp_path / "secret"


async def test_files_outside_the_data_folder_are_refused(
    secret_beside_data_folder: Path, no_blocking: None
) -> None:
    assert await read_data_file("table.csv") == b"a\n1\n"
    for path in ("../secret", str(secret_beside_data_folder), "link", ".", "missing", "nul\0", "x" * 5000):
        with pytest.raises(InputProblem):
            await read_data_file(path)
    with pytest.raises(InputProblem, match="is the most"):
        await read_data_file("table.csv", max_bytes=2)
