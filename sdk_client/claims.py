"""An atomic "first come" on the server's own API.

Creating a run is not idempotent, creating a thread with a given id is: the server inserts it once, whoever
asks and however often. So an empty thread serves as a claim. Its metadata is the record of who claimed and
what for; the nonce in it tells a caller whose answer got lost that the claim it finds is its own. Claim
threads stay idle, hold no state and expire by themselves where the server sweeps threads.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sdk_client.errors import NotFoundError
from sdk_client.transport import Transport

METADATA_KEY = "holdfast"
_TTL_MINUTES = 90 * 24 * 60


@dataclass(frozen=True, slots=True)
class Claim:
    """What stands under a claim's id."""

    claim_id: str
    mine: bool
    """Whether this very call made it."""
    record: dict[str, Any]
    """What the one who made it wrote down."""
    age_seconds: float
    """Since it was made, by the server's clock alone."""

    @property
    def released(self) -> bool:
        """Whether the one who made it has given it up, its run refused by the server."""
        return bool(self.record.get("released"))


class Claims:
    """Take a claim, or see who has it."""

    def __init__(self, transport: Transport) -> None:
        """Use the transport's connections and retry policy."""
        self._transport = transport

    async def take(
        self,
        claim_id: str,
        record: Mapping[str, Any],
        *,
        keep: bool = False,
        deadline_seconds: float | None = None,
    ) -> Claim:
        """Claim the id, or read the claim that got there first. Safe to retry.

        Args:
            claim_id: A UUID derived from what is claimed.
            record: JSON to keep with the claim if it becomes ours.
            keep: The thread is going to be used, so it must not expire as a bare claim.
            deadline_seconds: A shorter deadline than the policy's.
        """
        nonce = str(uuid.uuid4())
        body: dict[str, Any] = {
            "thread_id": claim_id,
            "if_exists": "do_nothing",
            "metadata": {METADATA_KEY: {**record, "nonce": nonce}},
        }
        if not keep:
            body["ttl"] = {"ttl": _TTL_MINUTES, "strategy": "delete"}
        thread, answered_at = await self._transport.call(
            "claim the request",
            lambda: self._transport.post_dated("/threads", body),
            thread_id=claim_id,
            deadline_seconds=deadline_seconds,
        )
        found = _record_of(thread)
        created_at = datetime.fromisoformat(thread["created_at"])
        return Claim(
            claim_id=claim_id,
            mine=found.get("nonce") == nonce,
            record=found,
            age_seconds=max(0.0, (answered_at - created_at).total_seconds()),
        )

    async def release(
        self, claim_id: str, record: Mapping[str, Any], *, deadline_seconds: float | None = None
    ) -> None:
        """Mark a claim as given up, so that the next in line need not wait for it to grow old."""
        given_up = {**record, "released": True}
        await self._transport.call(
            "release the claim",
            lambda: self._transport.sdk.threads.update(claim_id, metadata={METADATA_KEY: given_up}),
            thread_id=claim_id,
            deadline_seconds=deadline_seconds,
        )

    async def read(self, claim_id: str) -> dict[str, Any] | None:
        """Read the record under the id; None where nobody has claimed it."""
        try:
            thread = await self._transport.call(
                "read the claim", lambda: self._transport.sdk.threads.get(claim_id), thread_id=claim_id
            )
        except NotFoundError:
            return None
        return _record_of(thread)


def _record_of(thread: Mapping[str, Any]) -> dict[str, Any]:
    record = (thread.get("metadata") or {}).get(METADATA_KEY)
    return dict(record) if isinstance(record, dict) else {}
