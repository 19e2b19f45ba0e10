"""What a claim on a pause says: who decided what, and whether that is what somebody else wants too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sdk_client.errors import AlreadyDecidedError
from sdk_client.models import RunHandle
from sdk_client.pauses import DecisionType

_EARLIER_NAMES: Final[Mapping[str, DecisionType]] = {"accept": "approve", "ignore": "reject"}
"""How releases from before wrote down two of the decisions."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision that stands, and the run that carries it out."""

    thread_id: str
    pause_id: str
    decision: DecisionType
    decided_by: str
    decided_at: str
    """ISO 8601, by the decider's clock."""
    run: RunHandle | None
    """None where nothing runs: a rejected static pause, and a pause with actions that are still open."""
    action: int | None = None
    """Which of several actions it is about, from 0; None for the pause as a whole."""
    open_actions: tuple[int, ...] = ()
    """The actions that still wait; the graph goes on when there are none."""


def name_of(record: Mapping[str, Any]) -> DecisionType:
    """Which decision a record is."""
    said = record["decision"]
    return _EARLIER_NAMES.get(said, said)


def is_wanted(record: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a record is the same decision, of the same person."""
    said = {"value": record.get("value"), "decided_by": record.get("decided_by")}
    return {"decision": name_of(record), **said} == wanted


def decision_in(
    record: Mapping[str, Any],
    thread_id: str,
    run: RunHandle | None,
    *,
    action: int | None = None,
    open_actions: tuple[int, ...] = (),
) -> Decision:
    """Tell a record to a caller."""
    return Decision(
        thread_id=thread_id,
        pause_id=str(record["pause_id"]),
        decision=name_of(record),
        decided_by=str(record["decided_by"]),
        decided_at=str(record["decided_at"]),
        run=run,
        action=action,
        open_actions=open_actions,
    )


def already(done: Decision, *, applied: Sequence[int] = ()) -> AlreadyDecidedError:
    """The error for who wanted something else than what stands; `applied` has the actions that they got."""
    what = f"{done.decision!r}" if done.action is None else f"{done.decision!r} on action {done.action + 1}"
    only = ", ".join(str(index + 1) for index in applied)
    fate = f"applied to action {only} alone" if applied else "not applied"
    return AlreadyDecidedError(
        f"{done.decided_by} decided {what} at {done.decided_at}; this decision was {fate}",
        decision=done.decision,
        decided_by=done.decided_by,
        decided_at=done.decided_at,
        thread_id=done.thread_id,
        run_id=done.run.run_id if done.run else None,
    )
