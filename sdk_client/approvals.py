"""Deciding on runs that wait for a human, each pause exactly once.

The server itself does not refuse a second decision: a second resume is a run that ends in "success" and
does nothing, or worse, answers the next question. So every decision begins with a claim: an insert, atomic
on the server, under an id derived from the thread and the pause (`claims.py`), holding what was decided, by
whom and when.

- Two people decide at the same instant: one insert wins. The other reads the winner's record and is told
  who decided what (`AlreadyDecidedError`).
- The same decision by the same person again (a lost answer, a double click): the same run is returned.
- The decider dies between claim and resume: the claim stands without a run. Whoever comes next carries out
  what was *claimed*, then is told so. The resume is named after the claim and looked for before it is
  created (`submission.py`), so the two can never both do it.
- A resume is addressed to its interrupt by id, so it cannot answer another one. For a static pause an edit
  travels inside the resuming run (`command.update`): state and continuation change together or not at all.
- Rejecting a static pause runs nothing: the state is updated as of the graph's end, which clears what was
  to come and leaves the thread idle with its values.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sdk_client.claims import METADATA_KEY, Claim, Claims
from sdk_client.errors import AlreadyDecidedError, ConfigurationError, NotFoundError, RefusedError
from sdk_client.identity import claim_id_for
from sdk_client.models import RunHandle
from sdk_client.pauses import Approval, DecisionType, approvals_in
from sdk_client.snapshots import snapshot_of
from sdk_client.submission import RunPlan, Submission
from sdk_client.transport import Transport

__all__ = ["Approval", "Approvals", "Decision", "DecisionType", "approvals_in"]

_PAGE = 100
_AT_ONCE = 8
_RECENT_RUNS = 100
_CLAIM_KEY = "holdfast_claim_id"


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
    """None where nothing runs: a rejected static pause."""


class Approvals:
    """Lists pauses and decides on them."""

    def __init__(self, transport: Transport, submission: Submission, claims: Claims) -> None:
        """Read through the transport, resume through the submission."""
        self._transport = transport
        self._submission = submission
        self._claims = claims

    async def list_waiting(self, assistant_id: str | None = None, *, limit: int = 50) -> list[Approval]:
        """List pauses that wait, the most recently changed thread first.

        Args:
            assistant_id: Only of this graph (its name) or assistant (its UUID).
            limit: At most so many pauses, 1 to 1000.
        """
        if not 1 <= limit <= 1000:
            raise ConfigurationError(f"limit is {limit}; it must be 1 to 1000.")
        metadata = {} if assistant_id is None else {_assistant_key(assistant_id): assistant_id}
        waiting: list[Approval] = []
        offset = 0
        gate = asyncio.Semaphore(_AT_ONCE)

        async def read(thread: Mapping[str, Any]) -> tuple[Approval, ...]:
            async with gate:
                try:
                    return await self._pauses_of(thread)
                except NotFoundError:
                    return ()  # deleted since the search

        while len(waiting) < limit:
            page = await self._transport.call(
                "list waiting threads",
                lambda offset=offset: self._transport.sdk.threads.search(  # type: ignore[misc]
                    status="interrupted",
                    metadata=metadata,
                    limit=_PAGE,
                    offset=offset,
                    sort_by="updated_at",
                    sort_order="desc",
                    select=["thread_id", "metadata", "status"],
                ),
            )
            for found in await asyncio.gather(*(read(thread) for thread in page)):
                waiting.extend(found)
            if len(page) < _PAGE:
                break
            offset += _PAGE
        return waiting[:limit]

    async def waiting_on(self, thread_id: str) -> tuple[Approval, ...]:
        """List the pauses of one thread; empty when it waits for nobody.

        Raises:
            NotFoundError: There is no such thread.
        """
        return await self._pauses_of(await self._thread(thread_id))

    async def get(self, thread_id: str) -> Approval:
        """Read the one pause of a thread.

        Raises:
            RefusedError: The thread waits for nobody, or for several decisions at once (use `waiting_on`).
            NotFoundError: There is no such thread.
        """
        found = await self.waiting_on(thread_id)
        if not found:
            raise RefusedError("The thread is not waiting for a decision", thread_id=thread_id)
        return _only(found)

    async def approve(self, approval: Approval | str, *, decided_by: str) -> Decision:
        """Let the action happen as proposed; see `decide`."""
        return await self.decide(approval, "accept", None, decided_by=decided_by)

    async def edit(self, approval: Approval | str, args: Mapping[str, Any], *, decided_by: str) -> Decision:
        """Let it happen with other arguments; for a static pause `args` updates the state. See `decide`."""
        return await self.decide(approval, "edit", dict(args), decided_by=decided_by)

    async def reject(self, approval: Approval | str, *, decided_by: str) -> Decision:
        """Do not let it happen; see `decide`."""
        return await self.decide(approval, "ignore", None, decided_by=decided_by)

    async def respond(self, approval: Approval | str, answer: Any, *, decided_by: str) -> Decision:
        """Answer in words; to a "question" the answer may be any JSON value. See `decide`."""
        return await self.decide(approval, "respond", answer, decided_by=decided_by)

    async def decide(
        self, approval: Approval | str, decision: DecisionType, value: Any, *, decided_by: str
    ) -> Decision:
        """Make the one decision of a pause and set the run going again.

        Args:
            approval: The pause, or the id of a thread that has one.
            decision: What to do; must be among the pause's `allowed`.
            value: The new arguments of an edit, the text of a response, else None.
            decided_by: Who decides; kept with the decision.

        Raises:
            AlreadyDecidedError: Somebody decided otherwise before; their decision is carried out.
            RefusedError: The pause does not allow it, or the thread does not wait.
            HoldfastError: What submitting a run raises.
        """
        if not decided_by.strip():
            raise ConfigurationError("decided_by is empty; say who decides.")
        pause = approval if isinstance(approval, Approval) else await self._pause_or_refuse(approval)
        if decision not in pause.allowed:
            allowed = ", ".join(sorted(pause.allowed)) or "nothing"
            raise RefusedError(
                f"This pause does not allow {decision!r}, only {allowed}",
                thread_id=pause.thread_id,
            )
        started = time.monotonic()
        claim_id = claim_id_for(pause.thread_id, pause.pause_id)
        wanted = {"decision": decision, "value": value, "decided_by": decided_by}
        thread = await self._thread(pause.thread_id)
        if any(found.pause_id == pause.pause_id for found in await self._pauses_of(thread)):
            claim = await self._claims.take(
                claim_id,
                {
                    "kind": "decision",
                    "thread_id": pause.thread_id,
                    "pause_id": pause.pause_id,
                    "decided_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    **wanted,
                },
            )
            record, done = claim.record, await self._carry_out(pause, claim, started=started)
        else:
            record, done = await self._carried_out(pause, claim_id)
        if {name: record.get(name) for name in wanted} != wanted:
            raise _already(done)
        return done

    async def _carried_out(self, pause: Approval, claim_id: str) -> tuple[dict[str, Any], Decision]:
        """Read the decision of a pause that is over; resuming now could only disturb what came after it."""
        record = await self._claims.read(claim_id)
        run = await self._submission.find(RunPlan(pause.thread_id, pause.assistant_id, claim_id))
        ended = record is not None and pause.kind == "static" and record.get("decision") == "ignore"
        if record is None or (run is None and not ended):
            raise RefusedError(
                "This pause is over, and not by a decision: the thread has moved on",
                thread_id=pause.thread_id,
            )
        return record, _decision(pause.thread_id, pause.pause_id, record, run)

    async def _carry_out(self, pause: Approval, claim: Claim, *, started: float) -> Decision:
        """Do what the claim says, unless it is done."""
        record = claim.record
        decision: DecisionType = record["decision"]
        run: RunHandle | None = None
        if pause.kind == "static" and decision == "ignore":
            await self._end(pause, claim)
        else:
            run = await self._submission.create_claimed(
                RunPlan(
                    thread_id=pause.thread_id,
                    assistant_id=pause.assistant_id,
                    request_id=claim.claim_id,
                    arguments=await self._arguments(pause, decision, record.get("value")),
                    metadata={_CLAIM_KEY: claim.claim_id},
                ),
                claim,
                started=started,
            )
        return _decision(pause.thread_id, pause.pause_id, record, run)

    async def _arguments(self, pause: Approval, decision: DecisionType, value: Any) -> dict[str, Any]:
        """Build the resuming run: the decision, and what the paused run was given."""
        runs = await self._transport.call(
            "read the paused run",
            lambda: self._transport.sdk.runs.list(pause.thread_id, limit=1, select=["kwargs"]),
            thread_id=pause.thread_id,
        )
        newest: Mapping[str, Any] = dict(runs[0]) if runs else {}
        given: Mapping[str, Any] = newest.get("kwargs") or {}
        context = {
            key: kept
            for key, kept in (given.get("context") or {}).items()
            if not key.startswith(("__", "langgraph_"))
        }
        arguments = {
            "stream_mode": given.get("stream_mode"),
            "webhook": given.get("webhook"),
            "context": context or None,
            "command": _command(pause, decision, value),
            "stream_resumable": True,
            "durability": "sync",
            "multitask_strategy": "enqueue",
        }
        return {name: kept for name, kept in arguments.items() if kept}

    async def _end(self, pause: Approval, claim: Claim) -> None:
        """End a thread at a static pause; repeating it changes nothing."""
        sdk, thread_id = self._transport.sdk, pause.thread_id
        await self._transport.call(
            "note the decision",
            lambda: sdk.threads.update(thread_id, metadata={METADATA_KEY: {_CLAIM_KEY: claim.claim_id}}),
            thread_id=thread_id,
        )

        async def clear() -> None:
            state = snapshot_of(await sdk.threads.get_state(thread_id))
            if state.next and state.checkpoint_id == pause.checkpoint_id:
                await sdk.threads.update_state(thread_id, None, as_node="__end__")

        await self._transport.call("end the thread", clear, thread_id=thread_id)

    async def _pause_or_refuse(self, thread_id: str) -> Approval:
        """Find the pause a thread id stands for; refuse with the last decision where there was one."""
        thread = await self._thread(thread_id)
        if found := await self._pauses_of(thread):
            return _only(found)
        runs = await self._transport.call(
            "read the thread's runs",
            lambda: self._transport.sdk.runs.list(
                thread_id, limit=_RECENT_RUNS, select=["run_id", "assistant_id", "metadata"]
            ),
            thread_id=thread_id,
        )
        for run in runs:
            if claim_id := (run.get("metadata") or {}).get(_CLAIM_KEY):
                if record := await self._claims.read(str(claim_id)):
                    handle = RunHandle(str(run["run_id"]), thread_id, str(claim_id), str(run["assistant_id"]))
                    raise _already(_decision(thread_id, str(record["pause_id"]), record, handle))
                break
        noted = ((thread.get("metadata") or {}).get(METADATA_KEY) or {}).get(_CLAIM_KEY)
        if noted and (record := await self._claims.read(str(noted))):
            raise _already(_decision(thread_id, str(record["pause_id"]), record, None))
        raise RefusedError("The thread is not waiting for a decision and never had one", thread_id=thread_id)

    async def _thread(self, thread_id: str) -> Mapping[str, Any]:
        return await self._transport.call(
            "read the thread", lambda: self._transport.sdk.threads.get(thread_id), thread_id=thread_id
        )

    async def _pauses_of(self, thread: Mapping[str, Any]) -> tuple[Approval, ...]:
        if thread.get("status") != "interrupted":
            return ()
        sdk, thread_id = self._transport.sdk, str(thread["thread_id"])
        metadata = thread.get("metadata") or {}
        runs = await self._transport.call(
            "read the thread's runs",
            lambda: sdk.runs.list(thread_id, limit=1, select=["status", "assistant_id"]),
            thread_id=thread_id,
        )
        # A cancelled run also leaves its thread "interrupted" with nodes to run; only a run that ended well
        # has paused.
        if not runs or runs[0].get("status") != "success":
            return ()
        state = await self._transport.call(
            "read the thread's state", lambda: sdk.threads.get_state(thread_id), thread_id=thread_id
        )
        return approvals_in(
            snapshot_of(state),
            thread_id=thread_id,
            assistant_id=str(runs[0].get("assistant_id") or metadata.get("assistant_id")),
            graph_id=metadata.get("graph_id"),
        )


def _command(pause: Approval, decision: DecisionType, value: Any) -> dict[str, Any] | None:
    """Say how the graph is to go on; None means simply on, from a static pause."""
    if pause.kind == "static":
        return {"update": value} if decision == "edit" else None
    if pause.kind == "question":
        return {"resume": {pause.pause_id: value}}
    if decision == "edit":
        value = {"action": pause.action, "args": value}
    kind = "response" if decision == "respond" else decision
    return {"resume": {pause.pause_id: [{"type": kind, "args": value}]}}


def _decision(thread_id: str, pause_id: str, record: Mapping[str, Any], run: RunHandle | None) -> Decision:
    return Decision(
        thread_id=thread_id,
        pause_id=pause_id,
        decision=record["decision"],
        decided_by=str(record["decided_by"]),
        decided_at=str(record["decided_at"]),
        run=run,
    )


def _already(done: Decision) -> AlreadyDecidedError:
    return AlreadyDecidedError(
        f"{done.decided_by} decided {done.decision!r} at {done.decided_at}; this decision was not applied",
        decision=done.decision,
        decided_by=done.decided_by,
        decided_at=done.decided_at,
        thread_id=done.thread_id,
        run_id=done.run.run_id if done.run else None,
    )


def _only(found: tuple[Approval, ...]) -> Approval:
    if len(found) > 1:
        raise RefusedError(
            f"The thread waits for {len(found)} decisions; choose one from waiting_on()",
            thread_id=found[0].thread_id,
        )
    return found[0]


def _assistant_key(assistant_id: str) -> str:
    try:
        UUID(assistant_id)
    except ValueError:
        return "graph_id"
    return "assistant_id"
