"""A strict local fake of Anthropic's messages: refuses what the provider refuses, in its words.

https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from anthropic.types import ToolParam
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.providers.answers import Answer, Asked, Fault, LostError, Mind, obeys, pieces
from tests.providers.strictness import Json, RefusedError, is_schema_of_object, mapping

KEY = "sk-ant-local"
VERSIONS = frozenset({"2023-06-01", "2026-10-21"})
MODELS = frozenset({"claude-sonnet-4-5", "claude-sonnet-4-6", "claude-haiku-4-5"})
# What the provider's own client knows, and what older models still take.
_PARAMETERS = frozenset({*MessageCreateParamsStreaming.__annotations__, "temperature", "top_k", "top_p"})
_TOOL_PARAMETERS = frozenset(ToolParam.__annotations__)
_BLOCKS = frozenset({"text", "image", "document", "thinking", "tool_use", "tool_result"})
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_TAKES_PREFILL = frozenset({"claude-sonnet-4-5", "claude-haiku-4-5"})


class AnthropicFake:
    """Serves `/v1/messages`."""

    def __init__(self, mind: Mind = obeys) -> None:
        """Answer as `mind` decides."""
        self.requests: list[Json] = []
        """The bodies that were taken."""
        self.refused: list[RefusedError] = []
        self.mind = mind
        """What decides on the answers; a test may change it."""
        self.faults: list[Fault | None] = []
        """What happens to the next requests, one each."""
        self.asked_at: list[float] = []
        """When each request came, in seconds of a clock."""
        self.app = Starlette(routes=[Route("/v1/messages", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        request_id = f"req_{uuid.uuid4().hex[:24]}"
        headers = {"request-id": request_id}
        self.asked_at.append(time.monotonic())
        fault = self.faults.pop(0) if self.faults else None
        try:
            _fail(fault)
            body = await _body(request)
            asked = _check(body)
        except RefusedError as refused:
            self.refused += [] if fault else [refused]
            error = {"type": refused.kind, "message": refused.message}
            told = {"type": "error", "error": error, "request_id": request_id}
            return JSONResponse(told, refused.status, headers | refused.headers)
        self.requests.append(body)
        answer = self.mind(asked)
        if body.get("stream"):
            events = _streamed(body, answer, fault=fault)
            return StreamingResponse(events, headers=headers, media_type="text/event-stream")
        return JSONResponse(_whole(body, answer), headers=headers)


def _fail(fault: Fault | None) -> None:
    if fault and fault.status >= 400:
        kind = "rate_limit_error" if fault.status == 429 else "invalid_request_error"
        raise RefusedError(fault.status, kind, fault.message, headers=fault.headers)


async def _body(request: Request) -> Json:
    headers = request.headers
    # Newer clients send the key as a bearer's.
    if KEY not in (headers.get("x-api-key"), headers.get("authorization", "").removeprefix("Bearer ")):
        raise RefusedError(401, "authentication_error", "invalid x-api-key")
    if headers.get("anthropic-version") not in VERSIONS:
        raise _refused("anthropic-version: header is required")
    try:
        body = json.loads(await request.body())
    except ValueError:
        raise _refused("The request body is not valid JSON") from None
    return mapping(body)


def _check(body: Json) -> Asked:
    for name in body.keys() - _PARAMETERS:
        raise _refused(f"{name}: Extra inputs are not permitted")
    for name in ("model", "messages", "max_tokens"):
        if name not in body:
            raise _refused(f"{name}: Field required")
    if body["model"] not in MODELS:
        raise RefusedError(404, "not_found_error", f"model: {body['model']}")
    if not isinstance(body["max_tokens"], int) or body["max_tokens"] < 1:
        raise _refused("max_tokens: Input should be greater than or equal to 1")
    temperature = body.get("temperature")
    if temperature is not None and not 0 <= temperature <= 1:
        raise _refused("temperature: range: 0..1")
    tools = _check_tools(body)
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        raise _refused("messages: at least one message is required")
    return _check_messages([mapping(each) for each in messages], tools, body["model"])


def _check_tools(body: Json) -> list[str]:
    tools = body.get("tools") or []
    if body.get("tool_choice") and not tools:
        raise _refused("tool_choice: may only be specified while providing tools")
    names: list[str] = []
    for at, tool in enumerate(map(mapping, tools)):
        for name in tool.keys() - _TOOL_PARAMETERS:
            raise _refused(f"tools.{at}.custom.{name}: Extra inputs are not permitted")
        if not _NAME.fullmatch(str(tool.get("name", ""))):
            raise _refused(f"tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if not is_schema_of_object(tool.get("input_schema")):
            raise _refused(f"tools.{at}.custom.input_schema.type: Field required")
        if tool["name"] in names:
            raise _refused("tools: Tool names must be unique.")
        names.append(tool["name"])
    return names


def _check_messages(messages: list[Json], tools: list[str], model: str) -> Asked:
    awaited: list[str] = []
    results: list[str] = []
    user_text = ""
    for at, message in enumerate(messages):
        role = message.get("role")
        if role not in ("user", "assistant"):
            raise _refused(f"messages.{at}.role: Input should be 'user' or 'assistant'")
        if at == 0 and role != "user":
            raise _refused('messages: first message must use the "user" role')
        blocks = _blocks(message, at)
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        _check_answered(awaited, answered, at)
        awaited = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if role != "user":
            continue
        if answered:
            results += [_text(block) for block in blocks if block["type"] == "tool_result"]
        else:
            results = []
            user_text = "".join(block["text"] for block in blocks if block["type"] == "text")
    _check_answered(awaited, [], len(messages))
    if messages[-1]["role"] == "assistant" and model not in _TAKES_PREFILL:
        raise _refused(
            "This model does not support assistant message prefill. The conversation must end with a user "
            "message."
        )
    return Asked(tools, user_text, results)


def _check_answered(awaited: list[str], answered: list[str], at: int) -> None:
    if missing := [each for each in awaited if each not in answered]:
        raise _refused(
            f"messages.{at - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in "
            "the next message."
        )
    if unknown := [each for each in answered if each not in awaited]:
        raise _refused(
            f"messages.{at}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: "
            f"{', '.join(unknown)}. Each `tool_result` block must have a corresponding `tool_use` block in "
            "the previous message."
        )


def _blocks(message: Json, at: int) -> list[Json]:
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(blocks, list) or not blocks:
        raise _refused(f"messages.{at}: all messages must have non-empty content")
    for number, block in enumerate(map(mapping, blocks)):
        kind, where = block.get("type"), f"messages.{at}.content.{number}"
        if kind not in _BLOCKS:
            raise _refused(
                f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected"
            )
        if kind == "text" and not str(block.get("text", "")).strip():
            raise _refused(f"messages: text content blocks must contain non-whitespace text ({where})")
        if kind == "tool_use":
            if message["role"] != "assistant" or not isinstance(block.get("input"), dict):
                raise _refused(f"{where}.tool_use.input: Input should be a valid dictionary")
            for key in ("name", "id"):
                if not _NAME.fullmatch(str(block.get(key) or "")):
                    raise _refused(f"{where}.tool_use.{key}: String should match pattern '^[a-zA-Z0-9_-]+$'")
        if kind == "thinking" and not block.get("signature"):
            raise _refused(f"{where}.thinking.signature: Field required")
        if kind == "tool_result" and not (message["role"] == "user" and block.get("tool_use_id")):
            raise _refused(f"{where}.tool_result.tool_use_id: Field required")
    return blocks


def _text(result: Json) -> str:
    content = result.get("content", "")
    if isinstance(content, str):
        return content
    return "".join(str(block.get("text", "")) for block in map(mapping, content))


def _refused(message: str) -> RefusedError:
    return RefusedError(400, "invalid_request_error", message)


def _content(answer: Answer) -> Iterator[Json]:
    if answer.thought:
        yield {"type": "thinking", "thinking": answer.thought, "signature": "c2lnbmVk"}
    if answer.text:
        yield {"type": "text", "text": answer.text}
    for call in answer.calls:
        name = f"toolu_{uuid.uuid4().hex[:24]}"
        yield {"type": "tool_use", "id": name, "name": call.tool, "input": call.arguments}


def _whole(body: Json, answer: Answer) -> Json:
    return {
        "id": f"msg_{uuid.uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": list(_content(answer)),
        "stop_reason": _reason(answer),
        "stop_sequence": None,
        "usage": {"input_tokens": len(json.dumps(body["messages"])) // 4, "output_tokens": _tokens(answer)},
    }


async def _streamed(body: Json, answer: Answer, *, fault: Fault | None) -> AsyncIterator[bytes]:
    whole = _whole(body, answer)
    usage = {**whole["usage"], "output_tokens": 1}
    begun = {**whole, "content": [], "stop_reason": None, "usage": usage}
    yield _event("message_start", message=begun)
    for at, block in enumerate(whole["content"]):
        for event in _block_events(at, block, answer):
            yield event
            if fault and fault.status:
                yield _event("error", error={"type": "overloaded_error", "message": "Overloaded"})
                return
            if fault:
                raise LostError
        if at == 0:
            yield _event("ping")
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", delta=delta, usage=whole["usage"])
    yield _event("message_stop")


def _block_events(at: int, block: Json, answer: Answer) -> Iterator[bytes]:
    def delta(kind: str, **data: Any) -> bytes:
        return _event("content_block_delta", index=at, delta={"type": kind, **data})

    first = bool(answer.thought) + bool(answer.text)
    empty: Json = {"input": {}} if block["type"] == "tool_use" else {block["type"]: "", "signature": ""}
    begun = {key: empty.get(key, value) for key, value in block.items()}
    yield _event("content_block_start", index=at, content_block=begun)
    match block["type"]:
        case "tool_use":
            for piece in pieces(answer.calls[at - first].json):
                yield delta("input_json_delta", partial_json=piece)
        case "thinking":
            for piece in pieces(block["thinking"]):
                yield delta("thinking_delta", thinking=piece)
            yield delta("signature_delta", signature=block["signature"])
        case _:
            for piece in pieces(block["text"]):
                yield delta("text_delta", text=piece)
    yield _event("content_block_stop", index=at)


def _tokens(answer: Answer) -> int:
    return 1 + len(answer.text) // 4 + sum(len(call.json) // 4 for call in answer.calls)


def _reason(answer: Answer) -> str:
    if answer.declined:
        return "refusal"
    return "max_tokens" if answer.cut else "tool_use" if answer.calls else "end_turn"


def _event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()
