"""How answers look to a person: the final message, the result in outline, a pause with its commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sdk_client.approvals import Approval
from sdk_client.cli.output import Output, printable
from sdk_client.models import RunResult

MAX_LINES = 40
MAX_DEPTH = 3
MAX_TEXT = 160
MAX_ITEMS_IN_LINE = 8
EDITED_FILE = "edited.json"


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


def show_pause(output: Output, approvals: Sequence[Approval]) -> None:
    """Print what waits for a human, and the exact commands that answer it."""
    several = len(approvals) > 1
    for approval in approvals:
        output.say(f"waits for approval: {approval.action}")
        if approval.description:
            output.say(f"  {_indented(approval.description)}")
        if approval.args:
            output.say()
            _show_args(output, approval)
        elif approval.kind == "question" and not approval.description:
            show_outline(output, approval.payload, indent="  ")
        output.say()
        output.say("Answer it with one of:")
        for command in answering_commands(approval):
            output.say(f"  {command}{f' --pause {approval.pause_id}' if several else ''}")


def _show_args(output: Output, approval: Approval) -> None:
    if approval.kind == "static":  # the whole state
        show_outline(output, approval.args, indent="  ")
        return
    # Whoever decides must see all of what will be done, so nothing is cut here.
    for name, value in approval.args.items():
        text = (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)
        )
        output.say(f"  {name}: {text}" if "\n" not in text else f"  {name}:\n    {_indented(text, 4)}")


def answering_commands(approval: Approval) -> Iterator[str]:
    """The commands that may decide on a pause, ready to paste."""
    thread, allowed = approval.thread_id, approval.allowed
    if "accept" in allowed:
        yield f"holdfast approvals approve {thread}"
    if "edit" in allowed:
        given = _args_to_edit(approval)
        yield f"holdfast approvals edit {thread} --args {given or EDITED_FILE}"
        if given is None:
            yield f"  (the arguments to use are in {EDITED_FILE}; `approvals show --json` has these)"
    if "respond" in allowed:
        yield f"holdfast approvals respond {thread} 'your answer'"
    if "ignore" in allowed:
        yield f"holdfast approvals reject {thread}"


def _args_to_edit(approval: Approval) -> str | None:
    """The present arguments as a shell word; None if they are better put into a file."""
    if approval.kind == "static":
        # The args are the whole state, and an edit updates it: sent back whole, every list would grow twice.
        return """'{"STATE_KEY": "new value"}'"""
    args = json.dumps(approval.args, ensure_ascii=False, default=str)
    return shlex.quote(args) if len(args) <= MAX_TEXT and args == printable(args) else None


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


def _indented(text: str, by: int = 2) -> str:
    return "\n".join(
        f"{' ' * by}{line}" if line.strip() else "" for line in text.strip().splitlines()
    ).lstrip()
