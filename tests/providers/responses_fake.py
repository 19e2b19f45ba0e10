"""The strict local fake of OpenAI's responses: what `openai_fake.py` serves beside chat completions.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import itertools
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

from tests.providers.answers import Answer, Asked, Fault, LostError, pieces
from tests.providers.strictness import Json, RefusedError, is_schema_of_object, mapping

MODELS = frozenset({"gpt-5.1-codex", "gpt-4.1-mini"})
_PARAMETERS = frozenset(ResponseCreateParamsStreaming.__annotations__)
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ROLES = frozenset({"system", "developer", "user", "assistant"})
_PARTS = {"user": {"input_text", "input_image", "input_file"}, "assistant": {"output_text", "refusal"}}


def check(body: Json) -> Asked:
    """What the request comes to, or why it is refused."""
    for name in body.keys() - _PARAMETERS:
        raise _refused(f"Unknown parameter: '{name}'.", name)
    if body.get("model") not in MODELS:
        message = f"The requested model '{body.get('model')}' does not exist."
        raise RefusedError(404, "invalid_request_error", message, code="model_not_found")
    names: list[str] = []
    for at, tool in enumerate(map(mapping, body.get("tools") or [])):
        # Flat, where chat completions have the function inside.
        if tool.get("type") != "function" or not tool.get("name"):
            raise _refused(f"Missing required parameter: 'tools[{at}].name'.", f"tools[{at}].name")
        if not is_schema_of_object(tool.get("parameters")):
            raise _refused(f"Invalid schema for function '{tool['name']}'.", f"tools[{at}].parameters")
        names.append(tool["name"])
    items = body.get("input")
    if not isinstance(items, list) or not items:
        raise _refused("Missing required parameter: 'input'.", "input")
    return _check_items([mapping(item) for item in items], names)


def _check_items(items: list[Json], tools: list[str]) -> Asked:
    called: list[str] = []
    results: list[str] = []
    answered: list[str] = []
    user_text = ""
    for at, item in enumerate(items):
        where = f"input[{at}]"
        match item.get("type", "message"):
            case "reasoning":
                following = items[at + 1] if at + 1 < len(items) else {}
                made = following.get("role") == "assistant" or following.get("type") == "function_call"
                if not item.get("id") or not made:
                    raise _refused(
                        f"Item '{item.get('id')}' of type 'reasoning' was provided without its required "
                        "following item.",
                        "input",
                    )
            case "message":
                text = _text(item, where)
                if item["role"] == "user":
                    user_text, results = text, []
            case "function_call":
                if not isinstance(item.get("arguments"), str) or not item.get("call_id"):
                    raise _refused(f"Invalid '{where}.arguments': expected a string.", where)
                if not _NAME.fullmatch(str(item.get("name", ""))):
                    raise _refused(f"Invalid '{where}.name': string does not match pattern.", where)
                called.append(item["call_id"])
            case "function_call_output":
                if item.get("call_id") not in called:
                    raise _refused(
                        f"No tool call found for function call output with call_id {item.get('call_id')}.",
                        where,
                    )
                answered.append(item["call_id"])
                results.append(str(item.get("output", "")))
            case other:
                raise _refused(f"Invalid value: '{other}'.", f"{where}.type")
    if missing := [each for each in called if each not in answered]:
        raise _refused(f"No tool output found for function call {missing[0]}.", "input")
    return Asked(tools, user_text, results)


def _text(item: Json, where: str) -> str:
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise _refused(f"Invalid value: '{role}'. Supported values are: {sorted(_ROLES)}.", f"{where}.role")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _refused(f"Invalid type for '{where}.content'.", f"{where}.content")
    for number, part in enumerate(map(mapping, content)):
        if part.get("type") not in _PARTS["assistant" if role == "assistant" else "user"]:
            raise _refused(f"Invalid value: '{part.get('type')}'.", f"{where}.content[{number}]")
    return "".join(str(part.get("text", "")) for part in map(mapping, content))


def _refused(message: str, parameter: str) -> RefusedError:
    return RefusedError(400, "invalid_request_error", message, parameter)


def whole(body: Json, answer: Answer) -> Json:
    """The answer at once."""
    tokens_in = len(json.dumps(body["input"])) // 4
    tokens_out = 1 + len(answer.text) // 4 + sum(len(call.json) // 4 for call in answer.calls)
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "model": body["model"],
        "status": "incomplete" if answer.cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if answer.cut else None,
        "instructions": None,
        "metadata": {},
        "output": list(_output(answer)),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": tokens_in,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": tokens_out,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens_in + tokens_out,
        },
    }


def _output(answer: Answer) -> Iterator[Json]:
    if answer.thought:
        thought = {"type": "summary_text", "text": answer.thought}
        yield {"id": f"rs_{uuid.uuid4().hex}", "type": "reasoning", "summary": [thought]}
    if answer.text:
        part: Json = {"type": "output_text", "text": answer.text, "annotations": []}
        if answer.declined:
            part = {"type": "refusal", "refusal": answer.text}
        message = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant"}
        yield {**message, "status": "completed", "content": [part]}
    for call in answer.calls:
        yield {
            "id": f"fc_{uuid.uuid4().hex}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{uuid.uuid4().hex[:24]}",
            "name": call.tool,
            "arguments": call.json,
        }


async def streamed(body: Json, answer: Answer, *, fault: Fault | None) -> AsyncIterator[bytes]:
    """The answer in events."""
    response = whole(body, answer)
    numbers = itertools.count()

    def event(kind: str, **data: Any) -> bytes:
        told = {"type": kind, "sequence_number": next(numbers), **data}
        return f"event: {kind}\ndata: {json.dumps(told)}\n\n".encode()

    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for at, item in enumerate(response["output"]):
        for kind, data in _item_events(item):
            yield event(kind, output_index=at, **data)
            if fault and fault.status:
                yield event("error", code="server_error", message="Overloaded", param=None)
                return
            if fault:
                raise LostError
    yield event(f"response.{response['status']}", response=response)


def _item_events(item: Json) -> Iterator[tuple[str, Json]]:
    where = {"item_id": item["id"]}
    if item["type"] == "reasoning":
        [thought] = item["summary"]
        place = {**where, "summary_index": 0}
        yield "response.output_item.added", {"item": {**item, "summary": []}}
        yield "response.reasoning_summary_part.added", {**place, "part": {**thought, "text": ""}}
        for piece in pieces(thought["text"]):
            yield "response.reasoning_summary_text.delta", {**place, "delta": piece}
        yield "response.reasoning_summary_text.done", {**place, "text": thought["text"]}
        yield "response.reasoning_summary_part.done", {**place, "part": thought}
    elif item["type"] == "function_call":
        begun = {**item, "arguments": "", "status": "in_progress"}
        yield "response.output_item.added", {"item": begun}
        for piece in pieces(item["arguments"]):
            yield "response.function_call_arguments.delta", {**where, "delta": piece}
        yield "response.function_call_arguments.done", {**where, "arguments": item["arguments"]}
    else:
        [part] = item["content"]
        place = {**where, "content_index": 0}
        yield "response.output_item.added", {"item": {**item, "content": [], "status": "in_progress"}}
        kind, key = ("refusal",) * 2 if part["type"] == "refusal" else ("output_text", "text")
        yield "response.content_part.added", {**place, "part": {**part, key: ""}}
        for piece in pieces(part[key]):
            yield f"response.{kind}.delta", {**place, "delta": piece, "logprobs": []}
        yield f"response.{kind}.done", {**place, key: part[key], "logprobs": []}
        yield "response.content_part.done", {**place, "part": part}
    yield "response.output_item.done", {"item": item}
