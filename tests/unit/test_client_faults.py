"""The client against a server that fails in every way a network can."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from sdk_client import (
    AuthenticationError,
    Client,
    OutcomeUnknownError,
    PlatformUnavailableError,
    RefusedError,
    RetryPolicy,
    RunResult,
)
from tests.unit.faulty_server import Fault, FaultyServer, faulty_server

POLICY = RetryPolicy(attempts=6, deadline_seconds=10.0, base_delay_seconds=0.0, max_delay_seconds=0.0)
CREATE = r"POST /threads/[^/]+/runs$"
LOOK_UP = r"GET /threads/[^/]+/runs$"


@pytest.mark.parametrize("failures_before_success", [0, 2, 4])
@pytest.mark.parametrize("fault", ["status", "reset", "lost", "cut"])
async def test_faults_before_success_cost_no_run_and_double_none(
    fault: Fault, failures_before_success: int
) -> None:
    async with faulty_server() as server, Client(server.url, retry=POLICY) as client:
        server.faults = [
            (pattern, fault)
            for pattern in (r"POST /threads$", CREATE, r"GET /threads/[^/]+/runs/[^/]+$")
            for _ in range(failures_before_success)
        ]
        result = await client.run("echo", {"text": "x"})
        assert result.values == {"done": True}
        assert [run["run_id"] for run in server.runs] == [result.run_id]
        assert server.faults == [] or fault in ("lost", "cut")  # a lost create is found, not repeated
        await client.aclose()


@pytest.mark.parametrize("fault", ["lost", "cut", "slow"])
async def test_a_create_whose_answer_is_lost_on_the_last_attempt_is_still_found(fault: Fault) -> None:
    once = RetryPolicy(attempts=1, deadline_seconds=2.0)
    async with (
        faulty_server() as server,
        Client(server.url, retry=once, read_timeout_seconds=0.3) as client,
    ):
        server.faults = [(CREATE, fault)]
        handle = await client.submit("echo", {"text": "x"})
        assert [run["run_id"] for run in server.runs] == [handle.run_id]
        await client.aclose()


async def test_an_unknown_outcome_says_so_and_is_settled_by_asking_again() -> None:
    twice = RetryPolicy(attempts=2, deadline_seconds=5.0, base_delay_seconds=0.0, max_delay_seconds=0.0)
    async with faulty_server() as server, Client(server.url, retry=twice) as client:
        server.faults = [(CREATE, "lost"), *[(LOOK_UP, "reset")] * 3]  # type: ignore[list-item]
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.submit("echo", {"text": "x"})
        request_id = caught.value.request_id
        assert request_id is not None
        assert request_id in str(caught.value)
        handle = await client.submit("echo", {"text": "x"}, request_id=request_id)
        assert [run["run_id"] for run in server.runs] == [handle.run_id]
        await client.aclose()


async def test_a_server_that_stays_away_is_unavailable_and_nothing_is_left_running() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with Client(f"http://127.0.0.1:{unused.getsockname()[1]}", retry=POLICY) as client:
            with pytest.raises(PlatformUnavailableError) as caught:
                await client.submit("echo", {"text": "x"})
    assert caught.value.attempts == 6
    assert caught.value.__cause__ is not None


async def test_an_end_that_the_database_forgets_while_its_result_is_read_is_waited_for_again() -> None:
    """A standby that was behind took over: the run goes on from the last step that is there."""
    async with faulty_server() as server, Client(server.url, retry=POLICY) as client:
        handle = await client.submit("echo", {"text": "x"})
        answer, is_there = server.answer, False

        def forgetful(method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
            nonlocal is_there
            if path.endswith("/history") and not is_there:
                server.until_runs_end.clear()
                server.runs[0]["status"] = "pending"
                return 200, [{"values": {}, "next": ["say"], "tasks": []}]
            if path.endswith("/runs") and method == "GET" and not is_there:
                is_there = True
                asyncio.get_running_loop().call_later(0.1, server.until_runs_end.set)
            return answer(method, path, body)

        server.answer = forgetful  # type: ignore[method-assign]
        for is_watched in (False, True):
            is_there = False
            if is_watched:
                async with aclosing(client.watch(handle)) as items:
                    result = [item async for item in items if isinstance(item, RunResult)][-1]
            else:
                result = await client.join(handle)
            assert is_there
            assert result.values == {"done": True}
        await client.aclose()


async def test_every_kind_of_call_outlasts_a_restart_of_the_server() -> None:
    # The defaults, with pauses scaled as the outage is: far more attempts than any bound on them would allow.
    scaled = replace(RetryPolicy(), base_delay_seconds=0.005, max_delay_seconds=0.02)
    async with faulty_server() as server, Client(server.url, retry=scaled) as client:
        server.until_runs_end.clear()
        run = await client.submit("echo", {"text": "x"})

        async def watch() -> RunResult:
            async with aclosing(client.watch(run)) as items:
                return [item async for item in items if isinstance(item, RunResult)][-1]

        waiting = [asyncio.create_task(client.join(run)), asyncio.create_task(watch())]
        await server.has_asked(r"GET /threads/[^/]+/runs/[^/]+/(join|stream)$", times=2)
        server.stop()
        calls = [
            asyncio.create_task(client.submit("echo", {"text": "x"}, request_id="once")),
            asyncio.create_task(client.submit("echo", {"text": "x"}, conversation_id="talk")),
            asyncio.create_task(client.threads.inspect(run.thread_id)),
            asyncio.create_task(client.approvals.list_waiting()),
            asyncio.create_task(client.cancel(run)),
        ]
        await asyncio.sleep(1.0)  # the outage itself
        assert not any(task.done() for task in waiting + calls)
        await server.start()
        server.until_runs_end.set()
        results = await asyncio.gather(*waiting)
        assert [result.run_id for result in results] == [run.run_id] * 2
        await asyncio.gather(*calls)
        assert len(server.runs) == 3
        await client.aclose()


async def test_many_joins_need_no_more_connections_than_there_are_and_starve_no_create() -> None:
    async with faulty_server() as server, Client(server.url) as client:
        server.until_runs_end.clear()
        run = await client.submit("echo", {"text": "x"})
        joins = [asyncio.create_task(client.join(run)) for _ in range(150)]
        await server.has_asked(r"GET /threads/[^/]+/runs/[^/]+/join$", times=100)
        async with asyncio.timeout(15):  # before any of the long polls ends by itself
            await client.submit("echo", {"text": "x"})
        server.until_runs_end.set()
        assert {result.run_id for result in await asyncio.gather(*joins)} == {run.run_id}
        assert server.most_open_connections <= 200
        await client.aclose()


async def test_the_deadline_ends_a_request_in_flight() -> None:
    brief = RetryPolicy(attempts=6, deadline_seconds=0.3)
    async with faulty_server() as server, Client(server.url, retry=brief) as client:
        server.faults = [(r"POST /threads$", "slow")]
        with pytest.raises(PlatformUnavailableError, match="deadline"):
            await client.submit("echo", {"text": "x"})
        await client.aclose()


async def test_a_refusal_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    for status, kind in ((401, AuthenticationError), (403, AuthenticationError), (422, RefusedError)):
        async with faulty_server() as server, Client(server.url, retry=POLICY, api_key="k") as client:

            def refuse(*_: object, status: int = status) -> tuple[int, object]:
                return status, {"detail": "because"}

            monkeypatch.setattr(FaultyServer, "answer", refuse)
            with pytest.raises(kind, match="because") as caught:
                await client.submit("echo", {"text": "x"})
            assert caught.value.status_code == status
            assert len(server.requests) == 1
            await client.aclose()
