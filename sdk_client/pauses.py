"""What a run waits for: reading pauses out of a thread's state.

Two kinds. `interrupt()` in a node leaves an interrupt with an id and a payload; agent inboxes agree on a
payload of `{"action_request": {"action", "args"}, "config": {"allow_accept", ...}, "description"}`, alone
or in a list. A static breakpoint (`interrupt_before`) leaves nothing but a node that would run next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sdk_client.snapshots import PendingInterrupt, Snapshot

DecisionType = Literal["accept", "edit", "respond", "ignore"]
PauseKind = Literal["inbox", "question", "static"]

_STATIC_PREFIX = "static:"


@dataclass(frozen=True, slots=True)
class Approval:
    """One pause that waits for one decision."""

    thread_id: str
    pause_id: str
    """The interrupt's id, or `static:<checkpoint id>`."""
    kind: PauseKind
    """inbox: an agent-inbox request; question: `interrupt()` with any other payload; static: a breakpoint."""
    assistant_id: str
    graph_id: str | None
    node: str
    action: str
    """What is to be done, in the graph's words; for a static pause the node's name."""
    args: dict[str, Any]
    """What it would be done with; for a static pause the thread's values."""
    description: str | None
    allowed: frozenset[DecisionType]
    created_at: str | None
    """ISO 8601, when the pause began."""
    payload: Any = field(default=None, compare=False)
    """What the graph gave to `interrupt()`, unchanged."""

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
    return (
        Approval(
            pause_id=f"{_STATIC_PREFIX}{snapshot.checkpoint_id}",
            kind="static",
            node=nodes,
            action=nodes,
            args=snapshot.values,
            description=f"Paused before {nodes}",
            allowed=frozenset({"accept", "edit", "ignore"}),
            **common,
        ),
    )


def _from_interrupt(found: PendingInterrupt, common: Mapping[str, Any]) -> Approval:
    request = found.value[0] if isinstance(found.value, list) and len(found.value) == 1 else found.value
    action = request.get("action_request") if isinstance(request, dict) else None
    if not isinstance(request, dict) or not isinstance(action, dict):
        # Not a request an inbox knows, so only the graph's author knows what an answer looks like.
        return Approval(
            pause_id=found.id,
            kind="question",
            node=found.node,
            action=found.node,
            args={},
            description=found.value if isinstance(found.value, str) else None,
            allowed=frozenset({"respond"}),
            payload=found.value,
            **common,
        )
    config = request.get("config")
    flags: Mapping[str, Any] = config if isinstance(config, dict) else {}
    args = action.get("args")
    names: tuple[DecisionType, ...] = ("accept", "edit", "respond", "ignore")
    return Approval(
        pause_id=found.id,
        kind="inbox",
        node=found.node,
        action=str(action.get("action", found.node)),
        args=dict(args) if isinstance(args, dict) else {},
        description=request.get("description"),
        allowed=frozenset(name for name in names if flags.get(f"allow_{name}") is True),
        payload=found.value,
        **common,
    )
