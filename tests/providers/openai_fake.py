"""A strict local fake of OpenAI's chat completions: refuses what the provider refuses, in its words.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.providers import responses_fake
from tests.providers.answers import Answer, Asked, Fault, LostError, Mind, obeys, pieces
from tests.providers.strictness import Json, RefusedError, is_schema_of_object, mapping

KEY = "sk-local-openai"
MODELS = frozenset({"gpt-4.1", "gpt-4.1-mini", "gpt-4o"})
# What the provider's own client knows.
_PARAMETERS = frozenset(CompletionCreateParamsStreaming.__annotations__)
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_PARTS = frozenset({"text", "image_url", "input_audio", "file", "refusal"})


class OpenAIFake:
    """Serves `/v1/chat/completions` and `/v1/responses`."""

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
        routes = {"/v1/chat/completions": self._complete, "/v1/responses": self._respond}
        self.app = Starlette(routes=[Route(path, take, methods=["POST"]) for path, take in routes.items()])

    async def _complete(self, request: Request) -> Response:
        return await self._answer(request, _check, _whole, _streamed)

    async def _respond(self, request: Request) -> Response:
        return await self._answer(
            request, responses_fake.check, responses_fake.whole, responses_fake.streamed
        )

    async def _answer(
        self,
        request: Request,
        check: Callable[[Json], Asked],
        whole: Callable[[Json, Answer], Json],
        streamed: Callable[..., AsyncIterator[bytes]],
    ) -> Response:
        self.asked_at.append(time.monotonic())
        fault = self.faults.pop(0) if self.faults else None
        try:
            _fail(fault)
            body = await _body(request)
            asked = check(body)
        except RefusedError as refused:
            self.refused += [] if fault else [refused]
            error = {
                "message": refused.message,
                "type": refused.kind,
                "param": refused.parameter,
                "code": refused.code,
            }
            return JSONResponse({"error": error}, refused.status, refused.headers)
        self.requests.append(body)
        answer = self.mind(asked)
        if body.get("stream"):
            events = streamed(body, answer, fault=fault)
            return StreamingResponse(events, media_type="text/event-stream")
        return JSONResponse(whole(body, answer))


def _fail(fault: Fault | None) -> None:
    if fault and fault.status >= 400:
        kind = "insufficient_quota" if fault.status == 429 else "invalid_request_error"
        raise RefusedError(fault.status, kind, fault.message, headers=fault.headers)


async def _body(request: Request) -> Json:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        raise RefusedError(
            401, "invalid_request_error", "Incorrect API key provided.", code="invalid_api_key"
        )
    try:
        body = json.loads(await request.body())
    except ValueError:
        raise _refused("We could not parse the JSON body of your request.") from None
    return mapping(body)


def _check(body: Json) -> Asked:
    for name in body.keys() - _PARAMETERS:
        raise _refused(f"Unrecognized request argument supplied: {name}")
    if not isinstance(model := body.get("model"), str):
        raise _refused("you must provide a model parameter")
    if model not in MODELS:
        message = f"The model `{model}` does not exist or you do not have access to it."
        raise RefusedError(404, "invalid_request_error", message, code="model_not_found")
    temperature = body.get("temperature")
    if temperature is not None and not 0 <= temperature <= 2:
        raise _refused(f"Invalid 'temperature': {temperature} is not between 0 and 2.", "temperature")
    if "stream_options" in body and not body.get("stream"):
        raise _refused("The 'stream_options' parameter is only allowed when 'stream' is enabled.")
    tools = _check_tools(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _refused("Invalid 'messages': empty array. Expected at least one message.", "messages")
    return _check_messages([mapping(each) for each in messages], tools)


def _check_tools(body: Json) -> list[str]:
    if "tools" not in body:
        for name in ("tool_choice", "parallel_tool_calls"):
            if name in body:
                raise _refused(f"'{name}' is only allowed when 'tools' are specified.", name)
        return []
    names = []
    if not body["tools"]:
        raise _refused("Invalid 'tools': empty array. Expected an array with minimum length 1.", "tools")
    for at, tool in enumerate(body["tools"]):
        function = mapping(mapping(tool).get("function"))
        if mapping(tool).get("type") != "function" or not _NAME.fullmatch(str(function.get("name", ""))):
            raise _refused(f"Invalid 'tools[{at}].function.name'.", f"tools[{at}]")
        if "parameters" in function and not is_schema_of_object(function["parameters"]):
            raise _refused(f"Invalid schema for function '{function['name']}'.", f"tools[{at}]")
        names.append(function["name"])
    return names


def _check_messages(messages: list[Json], tools: list[str]) -> Asked:
    awaited: list[str] = []
    results: list[str] = []
    user_text = ""
    for at, message in enumerate(messages):
        role, where = message.get("role"), f"messages.[{at}]"
        if role not in _ROLES:
            raise _refused(f"Invalid value: '{role}'. Supported values are: {sorted(_ROLES)}.", where)
        if role == "tool":
            if message.get("tool_call_id") not in awaited:
                raise _refused(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
                    "with 'tool_calls'.",
                    where,
                )
            awaited.remove(message["tool_call_id"])
            results.append(_text(message, where))
            continue
        _check_answered(awaited, where)
        if role == "assistant" and "tool_calls" in message:
            awaited = _check_calls(message, where)
            continue
        text = _text(message, where)
        if role == "user":
            user_text, results = text, []
    _check_answered(awaited, "messages")
    return Asked(tools, user_text, results)


def _check_calls(message: Json, where: str) -> list[str]:
    if not message["tool_calls"]:
        raise _refused(f"[] is too short - '{where}.tool_calls'", f"{where}.tool_calls")
    ids = []
    for call in map(mapping, message["tool_calls"]):
        function = mapping(call.get("function"))
        if call.get("type") != "function" or not isinstance(function.get("arguments"), str):
            raise _refused(f"Invalid '{where}.tool_calls': a function with its arguments as text.", where)
        if not _NAME.fullmatch(str(function.get("name", ""))):
            raise _refused(
                f"Invalid '{where}.tool_calls[0].function.name': string does not match pattern. Expected a "
                "string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
                where,
            )
        if not 0 < len(str(call.get("id") or "")) <= 40 or call["id"] in ids:
            raise _refused(f"Invalid '{where}.tool_calls[0].id': 1 to 40 characters, each once.", where)
        ids.append(str(call["id"]))
    return ids


def _check_answered(awaited: list[str], where: str) -> None:
    if awaited:
        raise _refused(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            "'tool_call_id'. The following tool_call_ids did not have response messages: "
            f"{', '.join(awaited)}",
            where,
        )


def _text(message: Json, where: str) -> str:
    content = message.get("content")
    if isinstance(content, list):
        for part in map(mapping, content):
            if part.get("type") not in _PARTS:
                raise _refused(f"Invalid value: '{part.get('type')}'. Supported values are: {_PARTS}.", where)
        content = "".join(str(part.get("text", "")) for part in map(mapping, content))
    if not isinstance(content, str):
        raise _refused(f"Invalid value for 'content': expected a string, got {content!r}.", where)
    return content


def _refused(message: str, parameter: str | None = None) -> RefusedError:
    return RefusedError(400, "invalid_request_error", message, parameter)


def _head(body: Json, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": body["model"],
        "service_tier": "default",
        "system_fingerprint": "fp_local",
    }


def _usage(body: Json, answer: Answer) -> Json:
    prompt = len(json.dumps(body["messages"])) // 4
    completion = 1 + len(answer.text) // 4 + sum(len(call.json) // 4 for call in answer.calls)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _whole(body: Json, answer: Answer) -> Json:
    refusal = answer.text if answer.declined else None
    text = None if answer.declined else answer.text or None
    message: Json = {"role": "assistant", "content": text, "refusal": refusal}
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": f"call_{uuid.uuid4().hex[:24]}",
                "type": "function",
                "function": {"name": call.tool, "arguments": call.json},
            }
            for call in answer.calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(answer)}
    return {**_head(body, "chat.completion"), "choices": [choice], "usage": _usage(body, answer)}


async def _streamed(body: Json, answer: Answer, *, fault: Fault | None) -> AsyncIterator[bytes]:
    head = _head(body, "chat.completion.chunk")
    wants_usage = bool(mapping(body.get("stream_options")).get("include_usage"))

    def chunk(delta: Any, reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event({**head, "choices": [choice], **({"usage": None} if wants_usage else {})})

    yield chunk({"role": "assistant", "content": "" if answer.text else None, "refusal": None})
    for delta in _deltas(answer):
        yield chunk(delta)
        if fault and fault.status:
            yield _event({"error": {"message": "Overloaded", "type": "server_error", "code": None}})
            return
        if fault:
            raise LostError
    yield chunk({}, _reason(answer))
    if wants_usage:
        yield _event({**head, "choices": [], "usage": _usage(body, answer)})
    yield b"data: [DONE]\n\n"


def _deltas(answer: Answer) -> Iterator[Json]:
    for piece in pieces(answer.text):
        yield {"refusal" if answer.declined else "content": piece}
    for at, call in enumerate(answer.calls):
        begun = {"index": at, "id": f"call_{uuid.uuid4().hex[:24]}", "type": "function"}
        yield {"tool_calls": [{**begun, "function": {"name": call.tool, "arguments": ""}}]}
        for piece in pieces(call.json):
            yield {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}


def _reason(answer: Answer) -> str:
    return "length" if answer.cut else "tool_calls" if answer.calls else "stop"


def _event(data: Json) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"
