"""What a run waits for: reading pauses out of a thread's state.

`interrupt()` in a node leaves an interrupt with an id and a payload. Five kinds of pause:

- hitl: LangChain's `HITLRequest`, one or several actions in `action_requests`, decided together
- tool_call: LangChain's `ToolApprovalRequest`, one call, with the JSON Schema of its answer
- inbox: the shape from before, `{"action_request", "config", "description"}`, alone or in a list of one
- question: any other payload, whose answer only the graph's author knows; also one of the shapes above that
  allows nothing known here, so that no pause is beyond deciding
- static: no interrupt but a breakpoint (`interrupt_before`), which leaves a node that would run next
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from sdk_client.snapshots import PendingInterrupt, Snapshot

DecisionType = Literal["approve", "edit", "reject", "respond"]
PauseKind = Literal["hitl", "tool_call", "inbox", "question", "static"]

DECISIONS: Final[tuple[DecisionType, ...]] = ("approve", "edit", "reject", "respond")
INBOX_NAMES: Final[Mapping[DecisionType, str]] = {
    "approve": "accept",
    "edit": "edit",
    "reject": "ignore",
    "respond": "response",
}
"""The types of an answer in the shape from before."""
_INBOX_FLAGS: Final[Mapping[str, DecisionType]] = {
    "allow_accept": "approve",
    "allow_edit": "edit",
    "allow_ignore": "reject",
    "allow_respond": "respond",
}
_STATIC_PREFIX = "static:"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that is to be done, and what may be decided about it."""

    name: str
    """In the graph's words; for a question and a static pause the node's name."""
    args: dict[str, Any]
    """What it would be done with; for a static pause the thread's values."""
    description: str | None
    allowed: frozenset[DecisionType]


@dataclass(frozen=True, slots=True)
class Approval:
    """One pause that waits for a human."""

    thread_id: str
    pause_id: str
    """The interrupt's id, or `static:<checkpoint id>`."""
    kind: PauseKind
    assistant_id: str
    graph_id: str | None
    node: str
    action: str
    """What is to be done; of several actions all names, as text."""
    args: dict[str, Any]
    """What it would be done with; of several actions empty: each of `actions` has its own."""
    description: str | None
    allowed: frozenset[DecisionType]
    """What may be decided; of several actions, about every one of them."""
    created_at: str | None
    """ISO 8601, when the pause began."""
    actions: tuple[Action, ...]
    """What waits for a decision, each by itself; more than one only in a pause of kind hitl."""
    payload: Any = field(default=None, compare=False)
    """What the graph gave to `interrupt()`, unchanged."""
    response_schema: dict[str, Any] | None = field(default=None, compare=False)
    """The JSON Schema of the answer, where the graph gave one."""

    @property
    def checkpoint_id(self) -> str | None:
        """The checkpoint of a static pause."""
        return self.pause_id.removeprefix(_STATIC_PREFIX) if self.kind == "static" else None


def approvals_in(
    snapshot: Snapshot, *, thread_id: str, assistant_id: str, graph_id: str | None
) -> tuple[Approval, ...]:
    """List the pauses of a state whose run ended well; empty when the graph has come to its end.

    A state with interrupts waits for those. One without interrupts that has nodes left to run stands at a
    static breakpoint, which is one pause however many nodes it holds back.
    """
    common: dict[str, Any] = {
        "thread_id": thread_id,
        "assistant_id": assistant_id,
        "graph_id": graph_id,
        "created_at": snapshot.created_at,
    }
    if snapshot.interrupts:
        return tuple(_from_interrupt(found, common) for found in snapshot.interrupts)
    if not snapshot.next or not snapshot.checkpoint_id:
        return ()
    nodes = ", ".join(snapshot.next)
    allowed = _known(["approve", "edit", "reject"])
    action = Action(nodes, snapshot.values, f"Paused before {nodes}", allowed)
    pause_id = f"{_STATIC_PREFIX}{snapshot.checkpoint_id}"
    return (_approval((action,), pause_id=pause_id, kind="static", node=nodes, **common),)


def _from_interrupt(found: PendingInterrupt, common: Mapping[str, Any]) -> Approval:
    kind, actions = _read(found)
    return _approval(
        actions,
        pause_id=found.id,
        kind=kind,
        node=found.node,
        payload=found.value,
        response_schema=found.response_schema,
        **common,
    )


def _approval(actions: tuple[Action, ...], **rest: Any) -> Approval:
    only = actions[0] if len(actions) == 1 else None
    return Approval(
        action=", ".join(action.name for action in actions),
        args=only.args if only else {},
        description=only.description if only else f"{len(actions)} actions, decided together",
        allowed=frozenset.intersection(*(action.allowed for action in actions)),
        actions=actions,
        **rest,
    )


def _read(found: PendingInterrupt) -> tuple[PauseKind, tuple[Action, ...]]:
    value = found.value
    # A payload may carry both shapes, for every interface: what the graph's own framework knows comes first.
    actions = _hitl_actions(value)
    if actions and all(action.allowed for action in actions):
        return "hitl", actions
    if (action := _tool_call(value, found.response_schema)) and action.allowed:
        return "tool_call", (action,)
    inbox = value[0] if isinstance(value, list) and len(value) == 1 else value
    if (action := _inbox_action(inbox)) and action.allowed:
        return "inbox", (action,)
    said = value if isinstance(value, str) else None
    return "question", (Action(found.node, {}, said, frozenset({"respond"})),)


def _hitl_actions(value: Any) -> tuple[Action, ...] | None:
    """Read a HITLRequest; None if it is none, or not a whole one."""
    requests, configs = _list(value, "action_requests"), _list(value, "review_configs")
    actions = []
    for index, request in enumerate(requests):
        name, args = _get(request, "name"), _get(request, "args")
        by_name = [config for config in configs if _get(config, "action_name") == name]
        config = by_name[0] if by_name else configs[index] if index < len(configs) else None
        allowed = _get(config, "allowed_decisions")
        if not isinstance(name, str) or not isinstance(args, dict) or not isinstance(allowed, list):
            return None
        actions.append(Action(name, args, _text(_get(request, "description")), _known(allowed)))
    return tuple(actions) or None


def _tool_call(value: Any, schema: Mapping[str, Any] | None) -> Action | None:
    name, args = _get(value, "name"), _get(value, "args")
    if _get(value, "type") != "tool_approval" or not isinstance(name, str) or not isinstance(args, dict):
        return None
    allowed = [kind for kind in DECISIONS if schema is None or branch_of(schema, kind)]
    return Action(name, args, _text(_get(value, "description")), _known(allowed))


def _inbox_action(value: Any) -> Action | None:
    request = _get(value, "action_request")
    name, args, config = _get(request, "action"), _get(request, "args"), _get(value, "config")
    if not isinstance(request, dict):
        return None
    allowed = [kind for flag, kind in _INBOX_FLAGS.items() if _get(config, flag) is True]
    args = dict(args) if isinstance(args, dict) else {}
    return Action(str(name or "action"), args, _text(_get(value, "description")), _known(allowed))


def branch_of(schema: Mapping[str, Any], decision: str) -> dict[str, Any] | None:
    """The part of an answer's JSON Schema that is about one type of decision; None if it has none."""
    definitions = schema.get("$defs") or {}
    for branch in schema.get("oneOf") or schema.get("anyOf") or [schema]:
        found = resolved(branch, definitions)
        if _get(_get(_get(found, "properties"), "type"), "const") == decision:
            return {**found, "$defs": definitions}
    return None


def resolved(schema: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """A schema itself, where it may be a reference into `$defs`."""
    name = str(_get(schema, "$ref") or "").removeprefix("#/$defs/")
    return cast("dict[str, Any]", definitions.get(name) or schema)


def _known(allowed: list[Any]) -> frozenset[DecisionType]:
    return frozenset(kind for kind in DECISIONS if kind in allowed)


def _list(value: Any, key: str) -> list[Any]:
    found = _get(value, key)
    return found if isinstance(found, list) else []


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
