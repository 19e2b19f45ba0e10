"""The outbox's rows: each statement on them. All times are the database's own clock.

A claim moves `available_at` into the future, so a claim that nobody renews or concludes is due again by
itself. It has a token; whoever holds an older one can write nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from langgraph_runtime_holdfast import pause
from langgraph_runtime_holdfast.database import Executor
from langgraph_runtime_holdfast.outbox.message import Message
from langgraph_runtime_holdfast.settings import WORKER_ID, settings

# A second write of the same end, whose first answer was lost, adds nothing.
_ADD: Final = """
INSERT INTO outbox (id, run_id, thread_id, url, host, body, is_sealed, retry_until)
VALUES (%(id)s, %(run_id)s, %(thread_id)s, %(url)s, %(host)s, %(body)s, %(is_sealed)s,
    now() + make_interval(secs => %(retry_seconds)s))
ON CONFLICT (run_id) DO NOTHING
"""
_CLAIM: Final = f"""
WITH due AS MATERIALIZED (
    SELECT id FROM outbox
    WHERE delivered_at IS NULL AND dead_at IS NULL AND available_at <= now() AND host <> ALL(%(not_to)s)
      AND NOT {pause.IS_ON}
    ORDER BY available_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE outbox SET attempts = attempts + 1, claim_token = nextval('lease_token'), claimed_by = %(worker)s,
    available_at = now() + make_interval(secs => %(lease_seconds)s)
FROM due WHERE outbox.id = due.id
RETURNING outbox.id, run_id, thread_id, url, host, octet_length(body) AS size_bytes, is_sealed, attempts,
    claim_token AS token,
    -- For the log; a run with a large input would have to be read for it, and one without a thread is gone.
    (SELECT kwargs -> 'config' -> 'configurable' ->> 'langgraph_request_id' FROM run
     WHERE run.run_id = outbox.run_id AND pg_column_size(kwargs) < 20000) AS request_id
"""  # noqa: S608 - constants
_BODY: Final = "SELECT body FROM outbox WHERE id = %(id)s AND claim_token = %(token)s"
_MINE: Final = """
FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) AS held (id, token)
WHERE outbox.id = held.id AND claim_token = held.token AND delivered_at IS NULL AND dead_at IS NULL
"""
_RENEW: Final = f"UPDATE outbox SET available_at = now() + make_interval(secs => %(lease_seconds)s) {_MINE}"  # noqa: S608
_RELEASE: Final = f"UPDATE outbox SET available_at = now(), claim_token = NULL, claimed_by = NULL {_MINE}"  # noqa: S608
_DELIVERED: Final = """
UPDATE outbox SET delivered_at = now(), body = NULL, last_status = %(status)s, last_error = NULL,
    claim_token = NULL, claimed_by = NULL
WHERE id = %(id)s AND claim_token = %(token)s AND delivered_at IS NULL AND dead_at IS NULL
RETURNING false AS is_dead
"""
# The last attempt is made when the time is up, and not a back-off before.
_FAILED: Final = """
UPDATE outbox SET last_status = %(status)s, last_error = %(error)s, claim_token = NULL, claimed_by = NULL,
    available_at = least(now() + make_interval(secs => %(delay_seconds)s), greatest(retry_until, now())),
    dead_at = CASE WHEN %(is_final)s OR now() >= retry_until THEN now() END,
    dead_reason = CASE WHEN %(is_final)s THEN %(error)s
        WHEN now() >= retry_until THEN format('tried %%s times until its time was up; the last: %%s',
            attempts, %(error)s::text) END
WHERE id = %(id)s AND claim_token = %(token)s AND delivered_at IS NULL AND dead_at IS NULL
RETURNING dead_at IS NOT NULL AS is_dead
"""
_SWEEP: Final = f"""
DELETE FROM outbox WHERE NOT {pause.IS_ON} AND id IN (
    SELECT id FROM outbox WHERE delivered_at < now() - make_interval(secs => %(delivered_seconds)s)
    UNION ALL
    SELECT id FROM outbox WHERE dead_at < now() - make_interval(secs => %(dead_seconds)s)
    LIMIT %(limit)s
)
"""  # noqa: S608 - constants
LEASE_SECONDS: Final = 10.0
"""How long a process keeps a claim without renewing it; then another one delivers."""


@dataclass(frozen=True)
class Claim:
    """A callback that this process may deliver until its claim lapses."""

    id: UUID
    run_id: UUID
    thread_id: UUID
    url: str
    host: str
    size_bytes: int
    """Of its body, which is read when it is sent: several may be large."""
    is_sealed: bool
    attempts: int
    """With this one."""
    token: int
    request_id: str | None = None
    """Of the request that created the run, where it is known."""


async def add(executor: Executor, run_id: UUID, thread_id: UUID, message: Message) -> None:
    """Write the callback of a run, in the transaction that ends it."""
    from langgraph_api.utils import uuid7

    parameters = {
        "id": uuid7(),
        "run_id": run_id,
        "thread_id": thread_id,
        **vars(message),
        "retry_seconds": settings().callback_retry_hours * 3600,
    }
    await executor.execute(_ADD, parameters, often=True)


async def claim(executor: Executor, limit: int, not_to: Sequence[str]) -> list[Claim]:
    """Claim callbacks that are due, those that have waited longest first.

    Args:
        executor: Where.
        limit: How many at most.
        not_to: Hosts that have enough for now.
    """
    parameters = {
        "limit": limit,
        "not_to": list(not_to),
        "worker": WORKER_ID,
        "lease_seconds": LEASE_SECONDS,
    }
    return [Claim(**row) for row in await executor.fetch(_CLAIM, parameters, often=True)]


async def read_body(executor: Executor, claimed: Claim) -> bytes | None:
    """What is to be sent; None if the claim is another process's by now."""
    row = await executor.fetch_one(_BODY, {"id": claimed.id, "token": claimed.token}, binary=True)
    return None if row is None else row["body"]


async def renew(executor: Executor, claims: Sequence[Claim]) -> None:
    """Keep claims whose attempts take long."""
    await executor.execute(_RENEW, {**_held(claims), "lease_seconds": LEASE_SECONDS}, often=True)


async def release(executor: Executor, claims: Sequence[Claim]) -> None:
    """Give claims back, due at once."""
    await executor.execute(_RELEASE, _held(claims), often=True)


async def conclude_delivered(executor: Executor, claimed: Claim, status: int) -> None:
    """Note that the receiver has taken it; nothing is left of its body."""
    delivered = {"id": claimed.id, "token": claimed.token, "status": status}
    await executor.fetch_one(_DELIVERED, delivered, often=True)


async def conclude_failed(
    executor: Executor,
    claimed: Claim,
    *,
    status: int | None,
    error: str,
    delay_seconds: float,
    is_final: bool,
) -> bool:
    """Note an attempt that failed; returns whether it was the last.

    Args:
        executor: Where.
        claimed: What was attempted.
        status: What the receiver answered, if it did.
        error: What was wrong.
        delay_seconds: When to try again, if there is time left.
        is_final: It makes no sense to try again.
    """
    parameters = {
        "id": claimed.id,
        "token": claimed.token,
        "status": status,
        "error": error,
        "delay_seconds": delay_seconds,
        "is_final": is_final,
    }
    row = await executor.fetch_one(_FAILED, parameters, often=True)
    return row is not None and bool(row["is_dead"])


async def sweep(executor: Executor, limit: int) -> int:
    """Delete up to so many rows that have been kept long enough; returns how many there were."""
    parameters = {
        "delivered_seconds": settings().callback_keep_delivered_hours * 3600,
        "dead_seconds": settings().callback_keep_dead_days * 86_400,
        "limit": limit,
    }
    return await executor.execute(_SWEEP, parameters)


def _held(claims: Sequence[Claim]) -> dict[str, Any]:
    return {"ids": [each.id for each in claims], "tokens": [each.token for each in claims]}
