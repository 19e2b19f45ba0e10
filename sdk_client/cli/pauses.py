"""How a pause looks to the person who decides on it: all of what will be done, and how to answer."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sdk_client.cli.output import Output, command, plain_table, printable
from sdk_client.cli.render import MAX_TEXT, show_outline
from sdk_client.decisions import Decision
from sdk_client.pauses import Action, Approval

EDITED_FILE = "edited.json"


def show_pause(
    output: Output,
    approvals: Sequence[Approval],
    decided: Mapping[str, Sequence[Decision | None]] | None = None,
) -> None:
    """Print what waits for a human, and the exact commands that answer it.

    Args:
        output: Where to.
        approvals: The pauses of a thread.
        decided: By pause id, what has been decided about each action of a pause that has several.
    """
    for approval in approvals:
        known = (decided or {}).get(approval.pause_id) or [None] * len(approval.actions)
        output.say(f"waits for approval: {approval.action}")
        if len(approval.actions) > 1:
            _show_table(output, approval, known)
        for number, action in enumerate(approval.actions, 1):
            if len(approval.actions) > 1:
                output.say()
                output.say(f"action {number}: {action.name}")
            if action.description:
                output.say(f"  {_indented(action.description)}")
            if action.args:
                output.say()
                _show_args(output, approval, action)
            elif approval.kind == "question" and not action.description:
                show_outline(output, approval.payload, indent="  ")
        output.say()
        output.say("Answer it with one of:")
        which = f" --pause {approval.pause_id}" if len(approvals) > 1 else ""
        for line in answering_commands(approval, known):
            output.say(f"  {line}{which}")


def edit_diff(action: Action, changed: Mapping[str, Any]) -> list[str]:
    """What an edit changes, as the lines of a unified diff; empty if it changes nothing."""
    before = [line for name in changed for line in _arg_lines(name, action.args.get(name))]
    after = [line for name, value in changed.items() for line in _arg_lines(name, value)]
    return list(difflib.unified_diff(before, after, "proposed", "edited", n=1, lineterm=""))


def answering_commands(approval: Approval, decided: Sequence[Decision | None] = ()) -> Iterator[str]:
    """The commands that may decide on a pause, ready to paste."""
    if len(approval.actions) == 1:
        yield from _commands(approval, approval.actions[0], "")
        return
    yield from (
        f"{command()} approvals {decision} {approval.thread_id}"
        for decision in ("approve", "reject")
        if decision in approval.allowed
    )
    for index, action in enumerate(approval.actions):
        if not any(decided[index : index + 1]):
            yield from _commands(approval, action, f" --action {index + 1}")


def _commands(approval: Approval, action: Action, which: str) -> Iterator[str]:
    thread, allowed = f"{approval.thread_id}{which}", action.allowed
    if "approve" in allowed:
        yield f"{command()} approvals approve {thread}"
    if "edit" in allowed:
        given = _args_to_edit(approval, action)
        yield f"{command()} approvals edit {thread} --args {given or EDITED_FILE}"
        if given is None:
            yield f"  (the arguments to change are in {EDITED_FILE}; `approvals show --json` has them all)"
    if "respond" in allowed:
        yield f"{command()} approvals respond {thread} 'your answer'"
    if "reject" in allowed:
        yield f"{command()} approvals reject {thread}"
        if approval.kind in ("hitl", "tool_call"):
            yield f"{command()} approvals reject {thread} --message 'why'"


def _args_to_edit(approval: Approval, action: Action) -> str | None:
    """The present arguments as a shell word; None if they are better put into a file."""
    if approval.kind == "static":
        # The args are the whole state, and an edit updates it: sent back whole, every list would grow twice.
        return """'{"STATE_KEY": "new value"}'"""
    args = json.dumps(action.args, ensure_ascii=False, default=str)
    return shlex.quote(args) if len(args) <= MAX_TEXT and args == printable(args) else None


def _show_table(output: Output, approval: Approval, decided: Sequence[Decision | None]) -> None:
    table = plain_table()
    for name in ("action", "name", "may be answered", "decided"):
        table.add_column(name, no_wrap=True)
    for number, (action, made) in enumerate(zip(approval.actions, decided, strict=True), 1):
        who = f"{made.decision} by {made.decided_by}" if made else "open"
        table.add_row(str(number), printable(action.name), ", ".join(sorted(action.allowed)), printable(who))
    if not output.as_json:
        output.answers.print(table)


def _show_args(output: Output, approval: Approval, action: Action) -> None:
    if approval.kind == "static":  # the whole state
        show_outline(output, action.args, indent="  ")
        return
    # Whoever decides must see all of what will be done, so nothing is cut here.
    for name, value in action.args.items():
        for line in _arg_lines(name, value):
            output.say(f"  {line}".rstrip())


def _arg_lines(name: str, value: Any) -> list[str]:
    plain = isinstance(value, str) and not _reads_as_json(value)
    text = value if plain else json.dumps(value, ensure_ascii=False, indent=2, default=str)
    lines = text.replace("\r\n", "\n").split("\n")  # at nothing else, which shows as what it is
    return [f"{name}: {text}"] if len(lines) == 1 else [f"{name}:", *(f"  {line}" for line in lines)]


def _reads_as_json(text: str) -> bool:
    """Whether a text shown as it is could be taken for a number, null or the like."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line.strip() else "" for line in text.strip().splitlines()).lstrip()
