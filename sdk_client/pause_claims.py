"""Claims on pauses: who may decide on one, or on one of the actions that it asks about.

A claim stands for as long as the pause does, with one exception: the server refused to create its run, as
one that is too large. Then it is released, and the next decision takes the claim after it, so that a
decision that cannot be carried out does not cost the pause.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

from sdk_client.claims import Claim, Claims
from sdk_client.identity import claim_id_for
from sdk_client.pauses import Approval
from sdk_client.submission import RunPlan, Submission


class PauseClaims:
    """Takes and reads the claims on pauses."""

    def __init__(self, claims: Claims, submission: Submission) -> None:
        """Look for runs through the submission."""
        self._claims = claims
        self._submission = submission

    async def take(self, pause: Approval, index: int | None, wanted: Mapping[str, Any]) -> Claim:
        """Claim the pause, or its action `index`, for a decision; or read the claim that stands."""
        record = {
            "kind": "decision",
            "thread_id": pause.thread_id,
            "pause_id": pause.pause_id,
            "decided_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **wanted,
        }
        for turn in count():
            claim = await self._claims.take(_claim_id(pause, index, turn), record)
            if await self._stands(pause, claim.claim_id, claim.record):
                return claim
        raise AssertionError

    async def read(self, pause: Approval, index: int | None) -> tuple[str, dict[str, Any]] | None:
        """Read the claim that stands, as its id and its record."""
        for turn in count():
            claim_id = _claim_id(pause, index, turn)
            record = await self._claims.read(claim_id)
            if record is None:
                return None
            if await self._stands(pause, claim_id, record):
                return claim_id, record
        raise AssertionError

    async def open_again(self, pause: Approval) -> None:
        """Release what was decided about each action, because the server refused all of it together."""
        for index in range(len(pause.actions)):
            if found := await self.read(pause, index):
                await self._claims.release(*found)

    async def _stands(self, pause: Approval, claim_id: str, record: Mapping[str, Any]) -> bool:
        if not record.get("released"):
            return True
        # Somebody who took over may have had more luck with the very same decision.
        plan = RunPlan(pause.thread_id, pause.assistant_id, claim_id)
        return await self._submission.find(plan) is not None


def _claim_id(pause: Approval, index: int | None, turn: int) -> str:
    name = pause.pause_id if index is None else f"{pause.pause_id}#{index}"
    return claim_id_for(pause.thread_id, name if turn == 0 else f"{name}~{turn}")
