"""Agents with the real clients of the providers, under load, on job loops of either kind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient

from tests.contract.api import Sdk
from tests.contract.conftest import plain_http
from tests.providers.anthropic_fake import AnthropicFake
from tests.providers.openai_fake import OpenAIFake

RUNS = 32
AT_ONCE = 8


@pytest.mark.parametrize(
    ("server", "graph"),
    [
        ("shared", "openai"),
        ("shared", "anthropic"),
        ("isolated", "openai_per_loop"),
        ("isolated", "anthropic_per_loop"),
    ],
)
async def test_every_run_of_an_agent_ends_well_and_streams(
    server_urls: dict[str, str],
    openai: tuple[OpenAIFake, str],
    anthropic: tuple[AnthropicFake, str],
    server: str,
    graph: str,
) -> None:
    """On loops of their own the clients are made per loop; on the shared one an agent may be a plain one."""
    places = asyncio.Semaphore(AT_ONCE)
    async with plain_http(server_urls[server]) as http:
        sdk: Sdk = LangGraphClient(http)

        async def one(number: int) -> str | None:
            async with places:
                return await _fault_of(sdk, graph, number)

        faults = await asyncio.gather(*(one(number) for number in range(RUNS)))
    wrong = [fault for fault in faults if fault]
    assert not wrong, f"{len(wrong)} of {RUNS}: {wrong[:3]}"
    refused = (openai if graph.startswith("openai") else anthropic)[0].refused
    assert not refused, refused[:3]


async def _fault_of(sdk: Sdk, graph: str, number: int) -> str | None:
    """Run an agent that calls its tool once; what was wrong, if anything."""
    expected = f"The tool says: {number} + 1000 = {number + 1000}"
    order = f'call add {{"a": {number}, "b": 1000}}'
    thread_id = (await sdk.threads.create())["thread_id"]
    streamed: list[str] = []
    final: Any = None
    stream = sdk.runs.stream(
        thread_id,
        graph,
        input={"messages": [{"role": "user", "content": order}]},
        stream_mode=["messages-tuple", "values"],
    )
    async for part in stream:
        if part.event == "error":
            return f"{number}: {part.data}"
        if part.event == "messages" and part.data[0]["type"] == "AIMessageChunk":
            streamed.append(_text(part.data[0]))
        elif part.event == "values":
            final = part.data
    said = [_text(message) for message in final["messages"]]
    if len(said) != 4 or said[-1] != expected:
        return f"{number}: {said}"
    if "".join(streamed) != expected or sum(map(bool, streamed)) < 2:
        return f"{number} streamed {streamed}"
    return None


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
