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
- A decision that the server refuses to carry out, as one that is too large, gives its claim back: the pause
  waits for another (`pause_claims.py`), and whoever waited for the refused one decides as they wanted.
- A pause with several actions takes one answer for all of them. Each action has a claim of its own, so that
  they can be decided one by one and by different people; with the last one the graph goes on.

What a graph could not take as an answer is refused before any of this (`answers.py`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from sdk_client.answers import Answer, as_json, checked_answer, command_for
from sdk_client.claims import METADATA_KEY, Claim, Claims
from sdk_client.decisions import Decision, already, decision_in, is_wanted, name_of
from sdk_client.errors import ConfigurationError, HoldfastError, RefusedError
from sdk_client.inherited import inherited
from sdk_client.models import RunHandle
from sdk_client.pause_claims import PauseClaims
from sdk_client.pauses import Approval, DecisionType
from sdk_client.reopening import Reopening
from sdk_client.snapshots import snapshot_of
from sdk_client.submission import GivenBackError, RunPlan, Submission
from sdk_client.transport import Transport
from sdk_client.waiting import Waiting

_RECENT_RUNS = 100
_CLAIM_KEY = "holdfast_claim_id"
_NOT_BY_A_DECISION = "This pause is over, and not by a decision"


class Approvals:
    """Lists pauses and decides on them."""

    def __init__(self, transport: Transport, submission: Submission, claims: Claims) -> None:
        """Read through the transport, resume through the submission."""
        self._transport = transport
        self._submission = submission
        self._claims = claims
        self._waiting = Waiting(transport)
        self._pauses = PauseClaims(claims, submission)
        self._reopening = Reopening(transport, submission, claims, self._waiting)

    async def list_waiting(self, assistant_id: str | None = None, *, limit: int = 50) -> list[Approval]:
        """List pauses that wait, the most recently changed thread first.

        Args:
            assistant_id: Only of this graph (its name) or assistant (its UUID).
            limit: At most so many pauses, 1 to 1000.

        Raises:
            NotFoundError: There is no such graph or assistant.
        """
        return await self._waiting.everywhere(assistant_id, limit=limit)

    async def waiting_on(self, thread_id: str) -> tuple[Approval, ...]:
        """List the pauses of one thread; empty when it waits for nobody.

        Raises:
            NotFoundError: There is no such thread.
        """
        return await self._waiting.pauses_of(await self._waiting.thread(thread_id))

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

    async def decided(self, approval: Approval) -> tuple[Decision | None, ...]:
        """Read what has been decided about each action of a pause that waits; None where it is open."""
        if len(approval.actions) == 1:
            return (None,)  # had it been decided, the pause would be over
        records = [await self._read(approval, index) for index in range(len(approval.actions))]
        return tuple(
            decision_in(record, approval.thread_id, None, action=index) if record else None
            for index, record in enumerate(records)
        )

    async def approve(
        self, approval: Approval | str, *, decided_by: str, action: int | None = None
    ) -> Decision:
        """Let the action happen as proposed; see `decide`."""
        return await self.decide(approval, "approve", None, decided_by=decided_by, action=action)

    async def edit(
        self,
        approval: Approval | str,
        args: Mapping[str, Any],
        *,
        decided_by: str,
        action: int | None = None,
    ) -> Decision:
        """Let it happen with other arguments; those not named stay as proposed.

        For a static pause `args` updates the state. See `decide`.
        """
        return await self.decide(approval, "edit", dict(args), decided_by=decided_by, action=action)

    async def reject(
        self,
        approval: Approval | str,
        *,
        decided_by: str,
        message: str | None = None,
        action: int | None = None,
    ) -> Decision:
        """Do not let it happen; `message` tells the agent why. See `decide`."""
        return await self.decide(approval, "reject", message, decided_by=decided_by, action=action)

    async def respond(
        self, approval: Approval | str, answer: Any, *, decided_by: str, action: int | None = None
    ) -> Decision:
        """Answer in words; to a "question" the answer may be any JSON value. See `decide`."""
        return await self.decide(approval, "respond", answer, decided_by=decided_by, action=action)

    async def reopen(self, thread_id: str, *, reopened_by: str) -> RunHandle:
        """Have a question asked again whose pause was lost, as by a wrong answer over the API.

        Join the run: it ends in ApprovalNeededError, with a pause to decide on. Repeating it, or two at once,
        gives the same run.

        Raises:
            RefusedError: The thread waits, or does not stand at a question, or more than the node that asked
                would run again.
            ThreadBusyError: The thread has a run that has not ended.
        """
        return await self._reopening.reopen(thread_id, reopened_by)

    async def decide(
        self,
        approval: Approval | str,
        decision: DecisionType,
        value: Any,
        *,
        decided_by: str,
        action: int | None = None,
    ) -> Decision:
        """Make the one decision of a pause, or of one of its actions, and set the run going again.

        Args:
            approval: The pause, or the id of a thread that has one.
            decision: What to do; must be among the pause's `allowed`.
            value: The arguments that an edit changes, the text of a response or a rejection, else None.
            decided_by: Who decides; kept with the decision.
            action: Which action of a pause that has several, from 0. None decides on all that are still
                open. The run goes on once every action is decided; until then the decision's `run` is None.

        Raises:
            AlreadyDecidedError: Somebody decided otherwise before; their decision is carried out.
            RefusedError: The pause does not allow it, the value does not fit, or the thread does not wait.
                Nothing was sent, and the pause is as it was.
            HoldfastError: What submitting a run raises.
        """
        if not decided_by.strip():
            raise ConfigurationError("decided_by is empty; say who decides.")
        pause = approval if isinstance(approval, Approval) else await self._pause_or_refuse(approval)
        started = time.monotonic()
        found = await self._waiting.pauses_of(await self._waiting.thread(pause.thread_id))
        waiting = next((one for one in found if one.pause_id == pause.pause_id), None)
        # What the server says of the pause counts, not what the caller has kept of it.
        answer = checked_answer(waiting or pause, action, decision, value)
        as_json(pause, decided_by)
        wanted = {"decision": answer.decision, "value": answer.value, "decided_by": decided_by}
        if waiting is not None and len(waiting.actions) > 1:
            while True:
                try:
                    return await self._decide_several(waiting, action, wanted, started=started)
                except GivenBackError:
                    started = time.monotonic()
        if waiting is None:
            record, done = await self._carried_out(pause, action)
        else:
            if waiting.kind == "static" and decision == "edit":
                await self._refuse_unknown_keys(waiting, answer.value)
            record, done = await self._decide_one(waiting, wanted, started=started)
        if not is_wanted(record, wanted):
            raise already(done)
        return done

    async def _decide_one(
        self, pause: Approval, wanted: Mapping[str, Any], *, started: float
    ) -> tuple[Mapping[str, Any], Decision]:
        """Carry out this decision, or the one that came first; not one that the server refused."""
        while True:
            claim = await self._pauses.take(pause, None, wanted)
            try:
                return claim.record, await self._carry_out(pause, claim, started=started)
            except GivenBackError:
                started = time.monotonic()

    async def _decide_several(
        self, pause: Approval, action: int | None, wanted: Mapping[str, Any], *, started: float
    ) -> Decision:
        """Claim one action, or all that are open; with the last one carry them out."""
        records = {index: await self._read(pause, index) for index in range(len(pause.actions))}
        if action is not None:
            chosen = [action]
        else:
            chosen = [index for index, record in records.items() if record is None]
        # In order, and no further than somebody else got: of two who decide on all, one decides on all.
        for index in chosen:
            claim = await self._pauses.take(pause, index, wanted)
            records[index] = claim.record
            if not is_wanted(claim.record, wanted):
                break
        # After the claim: of several who decide on one action each, the last one sees all of them.
        for index, record in records.items():
            records[index] = record or await self._read(pause, index)
        decided = {index: record for index, record in records.items() if record is not None}
        # Where none was open, whoever decided on all of them has not come to carry it out.
        asked = {index: decided[index] for index in chosen or decided if index in decided}
        lost = next((index for index, record in asked.items() if not is_wanted(record, wanted)), None)
        run: RunHandle | None = None
        if len(decided) == len(records):
            answers = [{"decision": one["decision"], "value": one["value"]} for one in decided.values()]
            claim = await self._pauses.take(pause, None, {**wanted, "answers": answers})
            # What counts is what the claim says: an action may have been given back and decided otherwise.
            for index, carried in enumerate(claim.record["answers"]):
                if index in asked and carried != answers[index]:
                    lost = index if lost is None else lost
                    asked[index] = {**claim.record, **carried}
            try:
                run = (await self._carry_out(pause, claim, started=started)).run
            except RefusedError:
                # If this fails too, whoever comes next is refused once more, and does it.
                with contextlib.suppress(HoldfastError):
                    await self._pauses.open_again(pause)
                raise
        told = next(iter(asked)) if lost is None else lost
        done = decision_in(
            asked[told],
            pause.thread_id,
            run,
            action=action if lost is None else lost,
            open_actions=tuple(index for index in records if index not in decided),
        )
        if lost is not None:
            applied = [index for index in chosen if index in asked and is_wanted(asked[index], wanted)]
            raise already(done, applied=applied)
        return done

    async def _read(self, pause: Approval, index: int) -> dict[str, Any] | None:
        found = await self._pauses.read(pause, index)
        return found[1] if found else None

    async def _carried_out(self, pause: Approval, action: int | None) -> tuple[Mapping[str, Any], Decision]:
        """Read the decision of a pause that is over; resuming now could only disturb what came after it."""
        found = await self._pauses.read(pause, None)
        if found is None:
            raise await self._over(pause.thread_id, _NOT_BY_A_DECISION)
        claim_id, record = found
        run = await self._submission.find(RunPlan(pause.thread_id, pause.assistant_id, claim_id))
        ended = pause.kind == "static" and name_of(record) == "reject"
        if run is None and not ended:
            raise await self._over(pause.thread_id, _NOT_BY_A_DECISION)
        if action is not None and len(pause.actions) > 1:
            record = await self._read(pause, action) or record
        else:
            action = None
        return record, decision_in(record, pause.thread_id, run, action=action)

    async def _carry_out(self, pause: Approval, claim: Claim, *, started: float) -> Decision:
        """Do what the claim says, unless it is done."""
        record = claim.record
        run: RunHandle | None = None
        if pause.kind == "static" and name_of(record) == "reject":
            await self._end(pause, claim)
        else:
            answers = [Answer(name_of(one), one.get("value")) for one in record.get("answers") or [record]]
            run = await self._submission.create_claimed(
                RunPlan(
                    thread_id=pause.thread_id,
                    assistant_id=pause.assistant_id,
                    request_id=claim.claim_id,
                    arguments={
                        **await inherited(self._transport, pause.thread_id),
                        **({"command": command} if (command := command_for(pause, answers)) else {}),
                    },
                    metadata={_CLAIM_KEY: claim.claim_id},
                ),
                claim,
                started=started,
                give_back=True,
            )
        return decision_in(record, pause.thread_id, run)

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
        thread = await self._waiting.thread(thread_id)
        if found := await self._waiting.pauses_of(thread):
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
                    raise already(decision_in(record, thread_id, handle))
                break
        noted = ((thread.get("metadata") or {}).get(METADATA_KEY) or {}).get(_CLAIM_KEY)
        if noted and (record := await self._claims.read(str(noted))):
            raise already(decision_in(record, thread_id, None))
        raise await self._over(thread_id, "The thread is not waiting for a decision and never had one")

    async def _over(self, thread_id: str, what: str) -> RefusedError:
        if await self._reopening.is_lost(thread_id):
            why = "an answer that the graph could not take, or a run that was stopped, ended the pause; "
            return RefusedError(f"{what}: {why}`approvals reopen` asks again", thread_id=thread_id)
        return RefusedError(f"{what}: the thread has moved on", thread_id=thread_id)

    async def _refuse_unknown_keys(self, pause: Approval, update: Mapping[str, Any]) -> None:
        """Refuse an edit of keys that the state does not have: the graph would go on without the edit."""
        schemas = await self._transport.call(
            "read the graph's schemas",
            lambda: self._transport.sdk.assistants.get_schemas(pause.assistant_id),
            thread_id=pause.thread_id,
        )
        known = set((schemas.get("state_schema") or {}).get("properties") or ())
        if known and (unknown := sorted(update.keys() - known)):
            raise RefusedError(
                f"The state has no key {', '.join(unknown)}; there are: {', '.join(sorted(known))}",
                thread_id=pause.thread_id,
            )


def _only(found: tuple[Approval, ...]) -> Approval:
    if len(found) > 1:
        raise RefusedError(
            f"The thread waits for {len(found)} decisions; choose one from waiting_on()",
            thread_id=found[0].thread_id,
        )
    return found[0]
