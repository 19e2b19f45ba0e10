"""The fakes refuse what the providers refuse: else an agent that passes here would fail there."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.providers import anthropic_fake, openai_fake
from tests.providers.anthropic_fake import AnthropicFake
from tests.providers.openai_fake import OpenAIFake

USER = {"role": "user", "content": "hello"}
OPENAI_CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
OPENAI_CALLS = {"role": "assistant", "content": None, "tool_calls": [OPENAI_CALL]}
ANTHROPIC_CALLS = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "t1", "name": "add", "input": {}}],
}
ANTHROPIC_RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t2", "content": "1"}]}


def openai() -> httpx.AsyncClient:
    """A client of a fake of its own, with the key that it takes."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(OpenAIFake().app),
        base_url="http://fake",
        headers={"authorization": f"Bearer {openai_fake.KEY}"},
    )


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"temprature": 1}, 400, "Unrecognized request argument supplied: temprature"),
        ({"model": "gpt-0"}, 404, "does not exist"),
        ({"messages": []}, 400, "empty array"),
        ({"stream_options": {"include_usage": True}}, 400, "only allowed when 'stream' is enabled"),
        ({"parallel_tool_calls": False}, 400, "only allowed when 'tools' are specified"),
        ({"messages": [USER, OPENAI_CALLS, USER]}, 400, "did not have response messages: c1"),
        (
            {"messages": [USER, {"role": "tool", "tool_call_id": "c1", "content": "1"}]},
            400,
            "must be a response to a preceeding message",
        ),
        ({"messages": [{"role": "user", "content": None}]}, 400, "expected a string"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, 400, "tools[0].function.name"),
    ],
)
async def test_openai_refuses(change: dict[str, Any], status: int, message: str) -> None:
    body = {"model": "gpt-4.1-mini", "messages": [USER]}
    async with openai() as http:
        assert (await http.post("/v1/chat/completions", json=body)).is_success
        answer = await http.post("/v1/chat/completions", json={**body, **change})
        stranger = await http.post("/v1/chat/completions", json=body, headers={"authorization": "Bearer x"})
    assert (answer.status_code, stranger.status_code) == (status, 401)
    assert message in answer.json()["error"]["message"]


RESPONSES_CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"temprature": 1}, 400, "Unknown parameter: 'temprature'"),
        ({"model": "gpt-0"}, 404, "does not exist"),
        ({"input": []}, 400, "Missing required parameter: 'input'"),
        ({"input": [USER, RESPONSES_CALL]}, 400, "No tool output found for function call c1"),
        ({"input": [USER, RESPONSES_CALL | {"arguments": {}}]}, 400, "expected a string"),
        ({"input": [USER, {"type": "function_call_output", "call_id": "c2"}]}, 400, "No tool call found"),
        ({"input": [{"role": "tool", "content": "1"}]}, 400, "Supported values are"),
        ({"tools": [{"type": "function", "function": {"name": "add"}}]}, 400, "tools[0].name"),
    ],
)
async def test_openais_responses_refuse(change: dict[str, Any], status: int, message: str) -> None:
    body = {"model": "gpt-5.1-codex", "input": [USER]}
    async with openai() as http:
        assert (await http.post("/v1/responses", json=body)).is_success
        answer = await http.post("/v1/responses", json=body | change)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"temprature": 1}, 400, "temprature: Extra inputs are not permitted"),
        ({"model": "claude-0"}, 404, "model: claude-0"),
        ({"messages": []}, 400, "at least one message"),
        (
            {"messages": [{"role": "assistant", "content": "hi"}]},
            400,
            'first message must use the "user" role',
        ),
        ({"messages": [{"role": "system", "content": "hi"}]}, 400, "'user' or 'assistant'"),
        ({"messages": [{"role": "user", "content": ""}]}, 400, "non-whitespace text"),
        ({"messages": [USER, {"role": "assistant", "content": "hi"}]}, 400, "must end with a user message"),
        ({"messages": [USER, ANTHROPIC_CALLS, USER]}, 400, "without `tool_result` blocks"),
        ({"messages": [USER, ANTHROPIC_CALLS, ANTHROPIC_RESULT]}, 400, "without `tool_result` blocks"),
        ({"messages": [ANTHROPIC_RESULT]}, 400, "unexpected `tool_use_id`"),
        ({"tools": [{"name": "add", "input_schema": {}}]}, 400, "input_schema.type: Field required"),
        ({"tool_choice": {"type": "auto"}}, 400, "only be specified while providing tools"),
    ],
)
async def test_anthropic_refuses(change: dict[str, Any], status: int, message: str) -> None:
    transport = httpx.ASGITransport(AnthropicFake().app)
    headers = {"x-api-key": anthropic_fake.KEY, "anthropic-version": max(anthropic_fake.VERSIONS)}
    body = {"model": "claude-sonnet-4-6", "max_tokens": 100, "messages": [USER]}
    async with httpx.AsyncClient(transport=transport, base_url="http://fake", headers=headers) as http:
        assert (await http.post("/v1/messages", json=body)).is_success
        answer = await http.post("/v1/messages", json={**body, **change})
        stranger = await http.post("/v1/messages", json=body, headers={"x-api-key": "x"})
    assert (answer.status_code, stranger.status_code) == (status, 401)
    assert message in answer.json()["error"]["message"]
