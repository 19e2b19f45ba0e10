"""Asking a question anew whose pause was lost.

Another interface may send an answer that the graph cannot take: it raises inside the node, LangGraph keeps
it, and every later answer fails with the first one's error. Or the run that carried an answer is stopped.
The question is then still in the thread's state, but nothing waits any more. A run without input that begins
at that very checkpoint forks it, forgets the answer and asks again: a new pause, which can be decided once.

Such a run executes again whatever runs at the checkpoint. That is safe for the node that asked, which every
resume runs again from its top, and for nothing else: not for nodes beside it that have finished, nor for what
a sub-graph had done before it asked. Those are refused.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import xxhash

from sdk_client.begun import runs_begun
from sdk_client.claims import Claims
from sdk_client.errors import ConfigurationError, RefusedError, ThreadBusyError
from sdk_client.identity import claim_id_for
from sdk_client.inherited import inherited
from sdk_client.models import RunHandle
from sdk_client.submission import RunPlan, Submission
from sdk_client.transport import Transport
from sdk_client.waiting import Waiting

_REOPENS = "holdfast_reopens"
_MOST_QUESTIONS = 100
"""Questions of one node that are looked at; nobody asks that many."""


class Reopening:
    """Finds questions whose pause was lost, and has them asked again."""

    def __init__(
        self, transport: Transport, submission: Submission, claims: Claims, waiting: Waiting
    ) -> None:
        """Read through the transport, run through the submission."""
        self._transport = transport
        self._submission = submission
        self._claims = claims
        self._waiting = waiting

    async def reopen(self, thread_id: str, reopened_by: str) -> RunHandle:
        """Ask again; see `Approvals.reopen`."""
        if not reopened_by.strip():
            raise ConfigurationError("reopened_by is empty; say who reopens.")
        started = time.monotonic()
        # The state before all else: had somebody reopened it before, their run is seen below.
        state = await self._waiting.state(thread_id)
        newest = await self._newest_run(thread_id)
        if newest.get("status") in ("pending", "running"):
            if reopens := (newest.get("metadata") or {}).get(_REOPENS):
                return RunHandle(str(newest["run_id"]), thread_id, str(reopens), str(newest["assistant_id"]))
            raise ThreadBusyError("The thread has a run that has not ended", thread_id=thread_id)
        if await self._waiting.pauses_of(await self._waiting.thread(thread_id)):
            raise RefusedError("The thread waits for a decision; nothing to reopen", thread_id=thread_id)
        checkpoint_id = _safe_checkpoint(state, thread_id)
        # With the newest run in its name: if this one is stopped before it asks, it can be tried once more.
        request_id = claim_id_for(thread_id, f"reopen:{checkpoint_id}:{newest.get('run_id')}")
        record = {"kind": "reopening", "thread_id": thread_id, "checkpoint_id": checkpoint_id}
        claim = await self._claims.take(request_id, {**record, "decided_by": reopened_by})
        arguments = await inherited(self._transport, thread_id)
        return await self._submission.create_claimed(
            RunPlan(
                thread_id=thread_id,
                assistant_id=str(newest["assistant_id"]),
                request_id=request_id,
                arguments={**arguments, "checkpoint_id": checkpoint_id, "multitask_strategy": "reject"},
                metadata={_REOPENS: request_id},
            ),
            claim,
            started=started,
        )

    async def is_lost(self, thread_id: str) -> bool:
        """Whether the thread stands at a question of which nobody is asked."""
        return any(
            task.get("interrupts") for task in (await self._waiting.state(thread_id)).get("tasks") or ()
        )

    async def _newest_run(self, thread_id: str) -> Mapping[str, Any]:
        runs = await runs_begun(self._transport, thread_id, ["run_id", "assistant_id", "metadata"])
        if not runs:
            raise RefusedError("The thread has no run", thread_id=thread_id)
        return runs[0]


def _safe_checkpoint(state: Mapping[str, Any], thread_id: str) -> str:
    """The checkpoint at which nothing but the asking node would run again."""
    tasks: Sequence[Mapping[str, Any]] = state.get("tasks") or ()
    if not any(task.get("interrupts") for task in tasks):
        raise RefusedError("The thread does not stand at a question; nothing to reopen", thread_id=thread_id)
    if len(tasks) > 1:
        names = ", ".join(str(task.get("name")) for task in tasks)
        raise RefusedError(
            f"Reopening would run {names} again, of which some may have finished", thread_id=thread_id
        )
    task = tasks[0]
    # A question's id is the hash of where it was asked: in the task itself, or in a graph inside of it.
    place = f"{task['name']}:{task['id']}"
    asked = [place, *(f"{place}|{answered}" for answered in range(1, _MOST_QUESTIONS))]
    own = {xxhash.xxh3_128_hexdigest(one.encode()) for one in asked}
    if task.get("checkpoint") or any(found["id"] not in own for found in task["interrupts"]):
        raise RefusedError(
            f"A graph inside of {task['name']} asked, which reopening would run again from its beginning",
            thread_id=thread_id,
        )
    return str(state["checkpoint"]["checkpoint_id"])
