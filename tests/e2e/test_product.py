"""The product as its users meet it: the demo, the receiver's door, bad input over the API."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from langgraph_runtime_holdfast.local.stack import LocalStack
from sdk_client import AlreadyDecidedError, ApprovalNeededError, Client

AGENTS = {"analytics", "formulation", "printing", "projects", "support", "trials"}
HOLDFAST = [sys.executable, "-m", "sdk_client.cli.main"]


def holdfast(stack: LocalStack, *arguments: str) -> tuple[int, dict[str, Any]]:
    ended = subprocess.run(
        [*HOLDFAST, *arguments, "--json"],
        env={**os.environ, **stack.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def test_the_demo_succeeds_and_every_callback_arrives(stack: LocalStack, project: Path) -> None:
    code, seen = holdfast(stack, "demo", "--examples", str(project / "graphs" / "examples"))
    assert code == 0, seen
    runs = seen["runs"]
    assert {run["agent"].split()[0] for run in runs} == AGENTS
    assert len(runs) == len(AGENTS) + 1  # support runs twice: up to its pause, and from it
    for run in runs:
        assert run["callback"]["state"] in ("verified", "handled"), run
        assert run["callback"]["deliveries"] == 1, run
    # The thread is asked when the callback is verified: by then the demo may have approved already.
    assert {run["agent"] for run in runs if run["callback"]["awaits_approval"]} <= {"support"}


async def test_the_receiver_lets_nobody_in_without_the_token(stack: LocalStack) -> None:
    url = f"{stack.environment['CALLBACKS_URL']}/callbacks/runs"
    async with httpx.AsyncClient() as http:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer"}):
            answer = await http.post(url, headers=headers, json={})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_server_lets_nobody_in_without_the_key(stack: LocalStack) -> None:
    async with httpx.AsyncClient(base_url=stack.url) as http:
        for headers in ({}, {"x-api-key": "wrong"}, {"x-auth-scheme": "langsmith"}):
            assert (await http.post("/threads/search", headers=headers, json={})).status_code == 401
        assert (await http.get("/ok")).status_code == 200


async def test_a_second_approval_is_refused(stack: LocalStack) -> None:
    message = {"messages": [{"role": "user", "content": "I want my money back for order 104822."}]}
    async with Client(stack.url, api_key=stack.environment["HOLDFAST_API_KEY"]) as client:
        with pytest.raises(ApprovalNeededError) as paused:
            await client.run("support", message, conversation_id="twice")
        (pause,) = paused.value.approvals
        decision = await client.approvals.approve(pause, decided_by="first")
        assert decision.run is not None
        result = await client.join(decision.run)
        assert result.values["result"]["reply"]["sent"] is True
        with pytest.raises(AlreadyDecidedError, match="first decided 'approve'"):
            await client.approvals.reject(pause, decided_by="second")


ONE_FACET = "facet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet"
OPEN_STL = base64.b64encode(f"solid one\n{ONE_FACET}\nendsolid".encode()).decode()
TASK = {"optimistic_days": 1, "likely_days": 2, "pessimistic_days": 3}
PLAN = [{"id": "A", **TASK, "depends_on": ["B"]}, {"id": "B", **TASK, "depends_on": ["A"]}]
BLEND = {
    "ingredients": [{"name": "Maize", "price_per_kg": 0.2, "properties": {"protein": 9}}],
    "targets": {"protein": {"min": 20}},
}
LONG = {"messages": [{"role": "user", "content": "x" * 1_000_000}]}

BAD_INPUT: list[tuple[str, dict[str, Any], str]] = [
    ("analytics", {"data": {"csv": 'a,b\n1,"2\n3'}}, "invalid_data"),
    ("analytics", {"data": {"path": "../../README.md"}}, "path_outside_data_folder"),
    ("analytics", {"data": {"csv": "a\n1"}, "sql": "COPY data TO 'stolen.csv'"}, "sql"),
    ("printing", {"part": {"stl_base64": OPEN_STL}}, "not_watertight"),
    ("projects", {"tasks": PLAN, "start_date": "2026-03-02"}, "cyclic_tasks"),
    ("trials", {"design": {"endpoint": "means", "effect": 5, "sd": 10, "n_per_group": -1}}, "design"),
    ("formulation", BLEND, "infeasible_blend"),
    ("support", {"messages": [{"role": "user", "content": "  "}]}, "empty_message"),
    *((agent, LONG, "prompt_too_long") for agent in sorted(AGENTS)),
]


@pytest.mark.parametrize(("agent", "sent", "code"), BAD_INPUT, ids=lambda value: str(value)[:40])
async def test_bad_input_is_answered_in_the_state(
    stack: LocalStack, agent: str, sent: dict[str, Any], code: str
) -> None:
    async with Client(stack.url, api_key=stack.environment["HOLDFAST_API_KEY"]) as client:
        result = await client.run(agent, sent)
    problem = result.values["problem"]
    assert code in problem["code"], problem
    assert problem["message"]
    assert problem["cure"]
    assert problem["message"] in result.values["messages"][-1]["content"]


def test_the_command_says_what_is_wrong_in_one_line(stack: LocalStack) -> None:
    code, seen = holdfast(stack, "run", "nonesuch", "hello")
    assert code == 4, seen
    assert "nonesuch" in seen["error"]["message"]
