"""Creating a run exactly once, over an API whose create is not idempotent.

Every run carries `metadata.request_id`. After a create whose answer was lost, the thread's runs are
searched for it before anything is created again. That is enough for one caller. Where several may ask for
the same run (a request id that the caller chose and may send from two processes, a decision that two people
may take), whoever claims it first (`claims.py`) creates it; the others wait until it is there. If it never
appears, its claimant has died: a claimant gives up at its deadline, so once the claim is older than that,
the next in line takes over with a claim of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdk_client.claims import Claim, Claims
from sdk_client.errors import (
    AuthenticationError,
    HoldfastError,
    OutcomeUnknownError,
    PlatformUnavailableError,
    RefusedError,
    ThreadBusyError,
)
from sdk_client.identity import new_request_id, takeover_id_for, thread_id_for, thread_id_for_request
from sdk_client.models import RunHandle
from sdk_client.retry import GaveUpError, call_with_retries, is_transient, may_have_arrived
from sdk_client.transport import Transport

REQUEST_ID_KEY = "request_id"
_RELEASE_SECONDS = 4.0
_PAGE = 100
_POLL_SECONDS = 0.5
_LAST_LOOK_SECONDS = 10.0
_GRACE_MARGIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run to be created: where, of which assistant, under which name, with what."""

    thread_id: str
    assistant_id: str
    request_id: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the SDK's `runs.create`."""
    metadata: Mapping[str, Any] = field(default_factory=dict)


class GivenBackError(Exception):
    """The run that was waited for was refused, and what its claim stood for is open again."""


class Submission:
    """Creates runs, each once."""

    def __init__(self, transport: Transport, claims: Claims) -> None:
        """Use the transport's connections and retry policy."""
        self._transport = transport
        self._claims = claims
        self.grace_seconds = transport.policy.deadline_seconds + _GRACE_MARGIN_SECONDS
        """How old a claim without a run must be before its claimant counts as dead."""

    async def submit(
        self,
        assistant_id: str,
        arguments: Mapping[str, Any],
        *,
        conversation_id: str | None,
        request_id: str | None,
        metadata: Mapping[str, Any] | None,
    ) -> RunHandle:
        """Make the thread and create the run on it; see `Client.submit`."""
        async with self._transport.submissions.take(self._transport.policy.deadline_seconds):
            return await self._submit(assistant_id, arguments, conversation_id, request_id, metadata)

    async def _submit(
        self,
        assistant_id: str,
        arguments: Mapping[str, Any],
        conversation_id: str | None,
        request_id: str | None,
        metadata: Mapping[str, Any] | None,
    ) -> RunHandle:
        started = time.monotonic()
        name = request_id or new_request_id()
        record_id = thread_id_for_request(name)
        thread_id = thread_id_for(conversation_id) if conversation_id is not None else record_id
        plan = RunPlan(thread_id, assistant_id, name, arguments, metadata or {})
        record = {"kind": "request", "request_id": name, "thread_id": thread_id, "assistant_id": assistant_id}

        claim: Claim | None = None
        if request_id is not None or thread_id == record_id:
            claim = await self._claims.take(record_id, record, keep=thread_id == record_id)
            _refuse_another_use(claim, plan)
        if thread_id != record_id:
            await self._transport.call(
                "make the thread",
                lambda: self._transport.sdk.threads.create(thread_id=thread_id, if_exists="do_nothing"),
                thread_id=thread_id,
                request_id=name,
                deadline_seconds=max(
                    0.0, self._transport.policy.deadline_seconds - time.monotonic() + started
                ),
            )
        if request_id is None or claim is None:
            return await self._create(plan, look_first=False, started=started)
        return await self.create_claimed(plan, claim, started=started)

    async def create_claimed(
        self, plan: RunPlan, claim: Claim, *, started: float, give_back: bool = False
    ) -> RunHandle:
        """Create the run that a claim stands for, or wait for the one that its claimant creates.

        Args:
            plan: The run.
            claim: As `Claims.take` returned it.
            started: `time.monotonic()` from before the claim was taken; the deadline counts from there.
            give_back: Whoever waits for the claim wants another run than its claimant. Once that one is
                refused nobody creates it any more, or two who go on from there would create one each.

        Raises:
            GivenBackError: With `give_back`, the claimant's run was refused.
            HoldfastError: What creating a run raises.
        """
        first, generation = claim, 0
        while True:
            if claim.mine:
                try:
                    return await self._create(plan, look_first=True, started=started)
                except (RefusedError, ThreadBusyError) as error:
                    # Not released, the claim would only make the next caller wait, so this must not hide
                    # the cause.
                    with contextlib.suppress(HoldfastError):
                        # Of a dead claimant's run it says nothing that we may not create it. The first claim
                        # before ours, so that whoever waits for ours sees it.
                        if give_back and claim is not first and not isinstance(error, AuthenticationError):
                            await self._release(first)
                        await self._release(claim)
                    raise
            if found := await self._wait_for_claimant(plan, claim):
                return found
            if give_back and ((await self._claims.read(first.claim_id)) or {}).get("released"):
                raise GivenBackError
            generation += 1
            started = time.monotonic()
            claim = await self._claims.take(
                takeover_id_for(first.claim_id, generation), {"kind": "takeover", "of": first.claim_id}
            )

    async def _release(self, claim: Claim) -> None:
        # Soon: later, somebody may count the claimant as dead and create its run.
        await self._claims.release(claim.claim_id, claim.record, deadline_seconds=_RELEASE_SECONDS)

    async def _wait_for_claimant(self, plan: RunPlan, claim: Claim) -> RunHandle | None:
        """Wait for the run of somebody else's claim; None when that somebody is dead or was refused."""
        since = time.monotonic()
        while True:
            if found := await self.find(plan):
                return found
            if claim.released or claim.age_seconds + time.monotonic() - since >= self.grace_seconds:
                return None
            await asyncio.sleep(_POLL_SECONDS)
            record = await self._claims.read(claim.claim_id)
            if record is None or record.get("released"):
                return None

    async def find(self, plan: RunPlan, *, deadline_seconds: float | None = None) -> RunHandle | None:
        """Look through all runs of the thread for the plan's request id.

        Raises:
            RefusedError: The request id belongs to a run of another assistant.
        """
        return await self._transport.call(
            "look for the run",
            lambda: self._find_once(plan),
            thread_id=plan.thread_id,
            request_id=plan.request_id,
            deadline_seconds=deadline_seconds,
        )

    async def _find_once(self, plan: RunPlan) -> RunHandle | None:
        offset = 0
        while True:
            page = await self._transport.sdk.runs.list(
                plan.thread_id,
                limit=_PAGE,
                offset=offset,
                select=["run_id", "thread_id", "assistant_id", "metadata"],
            )
            for run in page:
                if (run.get("metadata") or {}).get(REQUEST_ID_KEY) == plan.request_id:
                    return _handle_of(run, plan)
            if len(page) < _PAGE:
                return None
            offset += _PAGE

    async def _create(self, plan: RunPlan, *, look_first: bool, started: float) -> RunHandle:
        in_doubt = look_first  # whether a run of this name may exist
        sent = False  # whether a create of ours may have reached the server without an answer

        async def attempt() -> RunHandle:
            nonlocal in_doubt, sent
            if in_doubt and (found := await self._find_once(plan)):
                return found
            before = in_doubt, sent
            in_doubt = sent = True  # also when this attempt is cancelled by the deadline
            try:
                run = await self._transport.sdk.runs.create(
                    plan.thread_id,
                    plan.assistant_id,
                    metadata={**plan.metadata, REQUEST_ID_KEY: plan.request_id},
                    **plan.arguments,
                )
            except Exception as error:
                if not may_have_arrived(error):
                    in_doubt, sent = before
                raise
            return _handle_of(run, plan)

        policy = self._transport.policy
        remaining = policy.deadline_seconds - (time.monotonic() - started)
        ids: dict[str, Any] = {"thread_id": plan.thread_id, "request_id": plan.request_id}
        if remaining <= 0:
            raise PlatformUnavailableError(
                "Could not create the run: the deadline passed before it was sent", **ids
            )
        try:
            return await call_with_retries(attempt, policy, deadline_seconds=remaining)
        except GaveUpError as gave_up:
            cause = gave_up.cause
            if isinstance(cause, HoldfastError):
                raise cause from None
            ids["attempts"] = gave_up.attempts
            if sent and (is_transient(cause) or isinstance(cause, TimeoutError)):
                try:
                    found = await self.find(plan, deadline_seconds=_LAST_LOOK_SECONDS)
                except HoldfastError as unanswered:
                    raise OutcomeUnknownError(
                        "The run may or may not have been created, and the server could not be asked. "
                        "Submit again with this request_id: it finds the run, or creates it once",
                        **ids,
                    ) from unanswered
                if found:
                    return found
            raise self._transport.explain("create the run", cause, **ids) from cause


def _handle_of(run: Mapping[str, Any], plan: RunPlan) -> RunHandle:
    """Make the handle, after checking that the run is the one that was meant."""
    graph_id = (run.get("metadata") or {}).get("graph_id")
    if plan.assistant_id not in (str(run["assistant_id"]), graph_id) and graph_id is not None:
        raise RefusedError(
            f"The request id is taken by a run of another assistant ({graph_id}); use a new one",
            run_id=str(run["run_id"]),
            thread_id=plan.thread_id,
            request_id=plan.request_id,
        )
    return RunHandle(
        run_id=str(run["run_id"]),
        thread_id=str(run["thread_id"]),
        request_id=plan.request_id,
        assistant_id=str(run["assistant_id"]),
    )


def _refuse_another_use(claim: Claim, plan: RunPlan) -> None:
    """Refuse a request id that stands for a run on another thread."""
    other = claim.record.get("thread_id")
    if not claim.mine and other is not None and other != plan.thread_id:
        raise RefusedError(
            f"The request id is taken by a run on another thread ({other}); use a new one",
            thread_id=plan.thread_id,
            request_id=plan.request_id,
        )
