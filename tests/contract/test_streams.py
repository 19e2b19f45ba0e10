"""Streams over connections that are cut."""

from __future__ import annotations

from typing import Any

import pytest

from sdk_client import Client, RunFailedError, RunResult, StreamEvent, StreamGap
from tests.contract.conftest import POLICY
from tests.contract.proxy import cutting_proxy

TICKS = 120


def expected(ticks: int) -> list[dict[str, Any]]:
    return [{"tick": number} if number % 3 else {"blank": " "} for number in range(ticks)]


async def collect(stream: Any) -> tuple[list[Any], list[StreamGap], RunResult | None]:
    """Read a stream to its end: the custom events, the gaps, the result."""
    custom, gaps, result = [], [], None
    async for item in stream:
        if isinstance(item, RunResult):
            result = item
        elif isinstance(item, StreamGap):
            gaps.append(item)
        elif item.event == "custom":
            custom.append(item.data)
    return custom, gaps, result


async def test_a_stream_ends_with_the_result(client: Client) -> None:
    items = [item async for item in client.stream("echo", {"text": "x"}, stream_mode=["updates"])]
    assert isinstance(items[0], StreamEvent)
    assert items[0].event == "metadata"
    assert isinstance(items[-1], RunResult)
    assert [i.data for i in items[1:-1] if isinstance(i, StreamEvent)] == [{"say": {"heard": ["x"]}}]


async def test_a_stream_through_cut_connections_has_no_gap_and_no_repetition(server_url: str) -> None:
    async with cutting_proxy(int(server_url.rsplit(":", 1)[1])) as proxy:
        proxy.only_paths_with = b"/stream"
        proxy.cut_after_bytes = [1, 500, 700, 900, 40, 1200, 900]
        async with Client(f"http://127.0.0.1:{proxy.port}", retry=POLICY) as client:
            custom, gaps, result = await collect(
                client.stream("ticker", {"ticks": TICKS, "pause_seconds": 0.05}, stream_mode=["custom"])
            )
    assert custom == expected(TICKS)
    assert gaps == []
    assert result is not None
    assert result.values["sent"] == TICKS
    assert proxy.cuts >= 3  # a connection may end before its cut: the one that settles a doubt is short


async def test_watch_replays_a_run_from_its_first_event(client: Client) -> None:
    handle = await client.submit("ticker", {"ticks": TICKS, "pause_seconds": 0}, stream_mode=["custom"])
    await client.join(handle)
    custom, gaps, result = await collect(client.watch(handle))
    assert (custom, gaps) == (expected(TICKS), [])
    assert result is not None


async def test_a_stream_of_a_failing_run_ends_with_its_error(client: Client) -> None:
    seen = []

    async def follow() -> None:
        async for item in client.stream("failing", {"reason": "out of ink"}, stream_mode=["updates"]):
            seen.append(item)  # one by one: the items before the error are wanted

    with pytest.raises(RunFailedError, match="out of ink"):
        await follow()
    assert any(isinstance(item, StreamEvent) and "prepare" in (item.data or {}) for item in seen)


async def test_events_the_server_did_not_keep_are_told_of(client: Client) -> None:
    sdk = client._transport.sdk
    thread = await sdk.threads.create()
    run = await sdk.runs.create(thread["thread_id"], "echo", input={"text": "x"})  # not resumable
    handle = type(await client.submit("echo", {"text": "y"}))(
        str(run["run_id"]), str(thread["thread_id"]), None, str(run["assistant_id"])
    )
    await client.join(handle)
    _, gaps, result = await collect(client.watch(handle))
    assert len(gaps) == 1
    assert result is not None
    assert result.values["heard"] == ["x"]
