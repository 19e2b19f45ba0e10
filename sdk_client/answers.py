"""What may be answered to each kind of pause, and how the graph is told.

An answer of another shape than the graph expects does not come back as an error: it raises inside the graph,
which keeps it, so that the thread fails for ever and no right answer reaches it any more. So whatever can be
known to be wrong is refused here, before anything is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
import orjson

from sdk_client.errors import RefusedError
from sdk_client.pauses import INBOX_NAMES, Action, Approval, DecisionType, branch_of, resolved

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_DEEPER = 12
"""At how many levels below its top an answer lies in what is sent, and more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided about one action."""

    decision: DecisionType
    value: Any
    """All arguments of an edit, the text of a response or of a rejection, else None."""


def checked_answer(pause: Approval, index: int | None, decision: DecisionType, value: Any) -> Answer:
    """Make the answer that a graph understands out of what somebody wants, or say why it cannot be one.

    Args:
        pause: What it answers.
        index: Which of the pause's actions, from 0; None for all of them.
        decision: What to do.
        value: The arguments to change, the words, or None.

    Raises:
        RefusedError: The pause does not allow it, or the value does not fit.
    """
    value = as_json(pause, value)
    if index is not None and not 0 <= index < len(pause.actions):
        raise _refused(pause, f"There is no action {index + 1}; the pause has {len(pause.actions)}")
    for action in pause.actions if index is None else [pause.actions[index]]:
        if decision not in action.allowed:
            allowed = ", ".join(sorted(action.allowed)) or "nothing"
            of = f" of {action.name!r}" if len(pause.actions) > 1 else ""
            raise _refused(pause, f"This pause does not allow {decision!r}{of}, only {allowed}")
    if decision == "edit" and index is None and len(pause.actions) > 1:
        raise _refused(pause, f"The pause has {len(pause.actions)} actions; say which one is to be edited")
    answer = Answer(decision, _checked_value(pause, pause.actions[index or 0], decision, value))
    if pause.response_schema is not None:
        _check_schema(pause, answer)
    return answer


def as_json(pause: Approval, value: Any) -> Any:
    """Read a value as the server will keep it, so that one's own decision is known again there.

    Raises:
        RefusedError: It would arrive as something else, or not at all.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        plain = json.loads(text)
        sent = plain
        for _ in range(_DEEPER):
            sent = [sent]
        orjson.dumps(sent)  # what the SDK writes JSON with
    except (TypeError, ValueError, RecursionError) as error:
        raise _refused(pause, f"The value cannot be sent as JSON: {error}") from error
    if _NUL.search(text):
        raise _refused(pause, "The value has a NUL character in it, which the server does not keep")
    return plain


def command_for(pause: Approval, answers: Sequence[Answer]) -> dict[str, Any] | None:
    """Say how the graph is to go on; None means simply on, from a static pause.

    Args:
        pause: What is answered, by its id, so that no other pause can be.
        answers: One for each of its actions, in their order.
    """
    if pause.kind == "static":
        return {"update": answers[0].value} if answers[0].decision == "edit" else None
    return {"resume": {pause.pause_id: _resume_value(pause, answers)}}


def _resume_value(pause: Approval, answers: Sequence[Answer]) -> Any:
    first = answers[0]
    match pause.kind:
        case "hitl":
            pairs = zip(pause.actions, answers, strict=True)
            return {"decisions": [_hitl_decision(action, answer) for action, answer in pairs]}
        case "tool_call":
            return _hitl_decision(pause.actions[0], first)
        case "inbox":
            args = {"action": pause.action, "args": first.value} if first.decision == "edit" else first.value
            return [{"type": INBOX_NAMES[first.decision], "args": args}]
        case _:
            return first.value


def _hitl_decision(action: Action, answer: Answer) -> dict[str, Any]:
    if answer.decision == "edit":
        return {"type": "edit", "edited_action": {"name": action.name, "args": answer.value}}
    message = {} if answer.value is None else {"message": answer.value}
    return {"type": answer.decision, **message}


def _checked_value(pause: Approval, action: Action, decision: DecisionType, value: Any) -> Any:
    if decision == "edit":
        return _checked_args(pause, action, value)
    if decision == "respond" and pause.kind == "question":
        return value
    if decision == "respond" or (decision == "reject" and value is not None):
        if not isinstance(value, str) or not value.strip():
            raise _refused(pause, f"To {decision} takes a text that is not empty")
        if decision == "reject" and pause.kind not in ("hitl", "tool_call"):
            cure = "; respond with it" if "respond" in action.allowed else ""
            raise _refused(pause, f"This pause takes no reason for a rejection{cure}")
        return value
    if value is not None:
        raise _refused(pause, f"To {decision} takes no value")
    return None


def _checked_args(pause: Approval, action: Action, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        raise _refused(pause, "An edit takes an object with the arguments to change")
    if pause.kind == "static":
        return dict(value)
    known = action.args.keys() | _declared_args(pause)
    if unknown := sorted(map(str, value.keys() - known)):
        there_are = ", ".join(sorted(known)) or "none"
        raise _refused(pause, f"{action.name!r} has no argument {', '.join(unknown)}; there are: {there_are}")
    # Whoever edits one argument has read the others: they stay as they were proposed.
    return {**action.args, **value}


def _declared_args(pause: Approval) -> set[str]:
    """The arguments that the answer's schema declares: those with a default need not have been proposed."""
    schema = branch_of(pause.response_schema or {}, "edit") or {}
    definitions = schema.get("$defs") or {}
    for name in ("edited_action", "args"):
        schema = resolved((schema.get("properties") or {}).get(name) or {}, definitions)
    return set(schema.get("properties") or {})


def _check_schema(pause: Approval, answer: Answer) -> None:
    """Hold the answer against the schema, as LangGraph will."""
    schema = pause.response_schema or {}
    value = _resume_value(pause, [answer] * len(pause.actions))  # one that has a schema has one action
    # Held against all branches at once, an error would only say that none of them fits.
    schema = branch_of(schema, answer.decision) or schema
    try:
        validator = jsonschema_rs.validator_for(schema, retriever=_fetch_nothing)
        error = next(validator.iter_errors(value), None)
    except ValueError:
        return  # not a schema that can be read here; the server will say what it thinks of the answer
    if error:
        where = "".join(f"[{part!r}]" for part in error.instance_path)
        raise _refused(
            pause, f"The answer does not have the shape that is asked for: {error.message} {where}"
        )


def _fetch_nothing(uri: str) -> Any:
    raise ValueError(f"a schema is not fetched from elsewhere: {uri}")


def _refused(pause: Approval, why: str) -> RefusedError:
    return RefusedError(why.rstrip(), thread_id=pause.thread_id)
