"""How answers look to a person: the final message, the result in outline."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sdk_client.cli.output import Output
from sdk_client.models import RunResult

MAX_LINES = 40
MAX_DEPTH = 3
MAX_TEXT = 160
MAX_ITEMS_IN_LINE = 8


def show_result(output: Output, result: RunResult) -> None:
    """Print a finished run for a person: its last message, its result, its ids."""
    answer = final_text(result.values)
    if answer:
        output.say(answer)
    rest = result.values.get("result") if answer else result.values
    if rest:
        if answer:
            output.say()
        show_outline(output, rest)
    output.note(
        f"run {result.run_id} · thread {result.thread_id} · {result.status} in {result.seconds:.1f} s"
    )


def final_text(values: Mapping[str, Any]) -> str:
    """The text of the last message that an agent wrote; empty if there is none."""
    messages = values.get("messages")
    if not isinstance(messages, Sequence):
        return ""
    for message in reversed(messages):
        if isinstance(message, Mapping) and message.get("type") in ("ai", "assistant"):
            text = message_text(message.get("content"))
            if text:
                return text
    return ""


def message_text(content: object) -> str:
    """The text of a message's content, which is a string or a list of blocks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    texts = (block.get("text", "") if isinstance(block, Mapping) else str(block) for block in content)
    return "".join(text for text in texts if isinstance(text, str))


def show_outline(output: Output, value: object, indent: str = "") -> None:
    """Print a nested value in at most MAX_LINES lines, saying so where something is left out."""
    lines = list(_outline(value, 0))
    for line in lines[:MAX_LINES]:
        output.say(f"{indent}{line}")
    if len(lines) > MAX_LINES:
        output.say(f"… {len(lines) - MAX_LINES} more lines; --json prints everything")


def age(iso: str | None) -> str:
    """How long ago a time of the server was, in its largest unit."""
    if iso is None:
        return "unknown"
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(iso)).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(iso: str | None) -> str:
    """A time of the server, in UTC and to the second, as people read it."""
    if iso is None:
        return "unknown"
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _outline(value: object, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(value, Mapping):
        for key, inner in value.items():
            short = _in_line(inner, deep=depth + 1 >= MAX_DEPTH)
            if short is not None:
                yield f"{indent}{key}: {short}"
            else:
                yield f"{indent}{key}:"
                yield from _outline(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            short = _in_line(inner, deep=True)
            yield f"{indent}- {short}"
    else:
        yield f"{indent}{_in_line(value, deep=True)}"


def _in_line(value: object, *, deep: bool) -> str | None:
    """A value on one line, or None if it wants lines of its own; `deep` forbids that."""
    if isinstance(value, str):
        return _cut(value) or '""'
    if isinstance(value, float):
        return f"{value:.6g}"
    if not isinstance(value, Mapping | list):
        return json.dumps(value, default=str)
    if not value:
        return "none"
    if isinstance(value, list):
        line = ", ".join(str(_in_line(item, deep=True)) for item in value[:MAX_ITEMS_IN_LINE])
        if len(value) <= MAX_ITEMS_IN_LINE and len(line) <= MAX_TEXT and not any(map(_is_nested, value)):
            return line
        return f"[{len(value)} items]" if deep or len(value) > MAX_LINES else None
    if not deep:
        return None
    return _cut(", ".join(f"{key} {_in_line(item, deep=True)}" for key, item in value.items()))


def _is_nested(value: object) -> bool:
    return isinstance(value, Mapping | list)


def _cut(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= MAX_TEXT else f"{one_line[: MAX_TEXT - 1]}…"
