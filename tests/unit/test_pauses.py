"""Reading pauses of every shape, whole or broken, and the answers that each can take."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from sdk_client import Approval, RefusedError
from sdk_client.answers import checked_answer, command_for
from sdk_client.pauses import approvals_in
from sdk_client.snapshots import snapshot_of

SEND = {"name": "send", "args": {"to": "ann"}, "description": "Send?"}
REVIEW = {"action_name": "send", "allowed_decisions": ["approve", "edit", "reject", "respond"]}
HITL = {"action_requests": [SEND], "review_configs": [REVIEW]}
INBOX = {"action_request": {"action": "send", "args": {"to": "ann"}}, "config": {"allow_accept": True}}
CALL = {"type": "tool_approval", "tool_call_id": "c", **SEND}
APPROVE = {"properties": {"type": {"const": "approve"}}, "required": ["type"]}
NUMBER = {"type": "integer", "minimum": 1}


def pause(value: Any, schema: Any = None) -> Approval:
    interrupt = {"id": "p1", "value": value, "response_schema": schema}
    state = {"tasks": [{"name": "ask", "interrupts": [interrupt]}]}
    (found,) = approvals_in(snapshot_of(state), thread_id="t", assistant_id="a", graph_id="g")
    return found


def decide(found: Approval, decision: Any, value: Any = None) -> Any:
    command = command_for(found, [checked_answer(found, None, decision, value)])
    assert command
    return command["resume"]["p1"]


@pytest.mark.parametrize(
    ("value", "schema", "kind", "allowed"),
    [
        (HITL, None, "hitl", {"approve", "edit", "reject", "respond"}),
        ({**INBOX, **HITL}, None, "hitl", {"approve", "edit", "reject", "respond"}),
        (
            {**HITL, "review_configs": [{**REVIEW, "allowed_decisions": ["approve", "x"]}]},
            None,
            "hitl",
            {"approve"},
        ),
        ({**HITL, "review_configs": []}, None, "question", {"respond"}),
        ({**HITL, "action_requests": [{"name": "send", "args": "to ann"}]}, None, "question", {"respond"}),
        ({**HITL, "action_requests": "send", **INBOX}, None, "inbox", {"approve"}),
        ([INBOX], None, "inbox", {"approve"}),
        # Nothing known is allowed: only its author knows the answer, but it must be possible to give it.
        ({"action_request": {}, "config": None}, None, "question", {"respond"}),
        (
            {**HITL, "review_configs": [{**REVIEW, "allowed_decisions": ["delegate"]}]},
            None,
            "question",
            {"respond"},
        ),
        ([INBOX, INBOX], None, "question", {"respond"}),
        (CALL, APPROVE, "tool_call", {"approve"}),
        (CALL, None, "tool_call", {"approve", "edit", "reject", "respond"}),
        (
            CALL,
            {"oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/none"}], "$defs": {"A": APPROVE}},
            "tool_call",
            {"approve"},
        ),
        ("How many?", NUMBER, "question", {"respond"}),
        (None, None, "question", {"respond"}),
        ([], None, "question", {"respond"}),
    ],
)
def test_a_payload_is_read_for_what_it_is(value: Any, schema: Any, kind: str, allowed: set[str]) -> None:
    found = pause(value, schema)
    assert (str(found.kind), set(found.allowed)) == (kind, allowed)
    assert (found.payload, found.node) == (value, "ask")


@pytest.mark.parametrize(
    ("value", "decision", "given", "sent"),
    [
        (HITL, "approve", None, {"decisions": [{"type": "approve"}]}),
        (HITL, "reject", None, {"decisions": [{"type": "reject"}]}),
        (HITL, "reject", "no", {"decisions": [{"type": "reject", "message": "no"}]}),
        (HITL, "respond", "done", {"decisions": [{"type": "respond", "message": "done"}]}),
        (
            CALL,
            "edit",
            {"to": "bob"},
            {"type": "edit", "edited_action": {"name": "send", "args": {"to": "bob"}}},
        ),
        (INBOX, "approve", None, [{"type": "accept", "args": None}]),
        ("How many?", "respond", {"n": 3}, {"n": 3}),
    ],
)
def test_a_decision_is_sent_in_the_shape_of_its_pause(
    value: Any, decision: str, given: Any, sent: Any
) -> None:
    assert decide(pause(value), decision, given) == sent


def test_each_action_is_allowed_what_the_config_of_its_name_allows() -> None:
    keep = {"name": "keep", "args": {}}
    configs = [REVIEW, {"action_name": "keep", "allowed_decisions": ["reject"]}]
    found = pause({"action_requests": [keep, SEND], "review_configs": configs})
    assert [(action.name, len(action.allowed)) for action in found.actions] == [("keep", 1), ("send", 4)]
    assert found.allowed == {"reject"}


@pytest.mark.parametrize(
    ("given", "reason"),
    [({"too": "bob"}, "'send' has no argument too; there are: to"), ({}, "an object"), ("bob", "an object")],
)
def test_an_edit_of_what_the_action_does_not_have_is_refused(given: Any, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        decide(pause(HITL), "edit", given)


def test_an_answer_is_held_against_its_schema_and_nothing_is_fetched_for_it() -> None:
    question = pause("How many?", NUMBER)
    assert decide(question, "respond", 3) == 3
    for wrong in ("three", 0, None):
        with pytest.raises(RefusedError, match="does not have the shape"):
            decide(question, "respond", wrong)
    edited = {"edited_action": {"properties": {"args": {"properties": {"to": {"type": "string"}}}}}}
    edit = {"properties": {"type": {"const": "edit"}, **edited}}
    with pytest.raises(RefusedError, match='3 is not of type "string"'):  # and not only: it is none of these
        decide(pause(CALL, {"oneOf": [APPROVE, edit]}), "edit", {"to": 3})
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0)
        schema = {"$ref": f"http://127.0.0.1:{elsewhere.getsockname()[1]}/schema"}
        assert decide(pause("?", schema), "respond", "x") == "x"
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_a_reason_is_refused_where_nobody_would_read_it() -> None:
    inbox = pause({**INBOX, "config": {"allow_ignore": True, "allow_respond": True}})
    with pytest.raises(RefusedError, match="takes no reason for a rejection; respond with it"):
        decide(inbox, "reject", "no")


@pytest.mark.parametrize(
    ("value", "kept"), [((1, 2), [1, 2]), ({1: ("a",)}, {"1": ["a"]}), ("\\u0000", None)]
)
def test_a_value_is_read_as_it_will_be_kept(value: Any, kept: Any) -> None:
    assert checked_answer(pause("?"), None, "respond", value).value == (kept or value)


@pytest.mark.parametrize("value", [float("nan"), b"x", {1, 2}, "\ud800", 2**70, "a\x00b", {"a\x00": 1}])
def test_a_value_that_would_arrive_as_another_is_refused(value: Any) -> None:
    with pytest.raises(RefusedError, match=r"cannot be sent as JSON|NUL"):
        checked_answer(pause("?"), None, "respond", value)
