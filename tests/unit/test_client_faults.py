"""The client against a server that fails in every way a network can."""

from __future__ import annotations

import socket

import pytest

from sdk_client import (
    AuthenticationError,
    Client,
    OutcomeUnknownError,
    PlatformUnavailableError,
    RefusedError,
    RetryPolicy,
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
