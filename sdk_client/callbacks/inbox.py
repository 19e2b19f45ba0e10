"""The inbox table: every statement on it, one method each. All times are the database's own clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from sdk_client.callbacks.database import ANSWER_SECONDS, PATIENT_SECONDS, Connection, Database
from sdk_client.callbacks.notification import Notification

# Told again about a run that the server did not know: it is asked again.
_COUNT_AGAIN: Final = """
    deliveries = row.deliveries + 1,
    last_received_at = now(),
    next_attempt_at = CASE WHEN row.state = 'unknown' THEN now() ELSE row.next_attempt_at END,
    state = CASE WHEN row.state = 'unknown' THEN 'received' ELSE row.state END
"""
# A row that is known by its webhook or by its event is counted; there is one for both.
_STORE: Final = f"""
WITH known AS (
    UPDATE callbacks.inbox AS row SET {_COUNT_AGAIN} WHERE webhook_id = %(webhook_id)s
    RETURNING true AS duplicate
), stored AS (
    INSERT INTO callbacks.inbox AS row
        (run_id, thread_id, reported_status, webhook_id, run_started_at, run_ended_at, webhook_sent_at)
    SELECT %(run_id)s, %(thread_id)s, %(status)s, %(webhook_id)s,
        %(run_started_at)s, %(run_ended_at)s, %(webhook_sent_at)s
    WHERE NOT EXISTS (SELECT FROM known)
    ON CONFLICT (run_id, reported_status) DO UPDATE SET {_COUNT_AGAIN},
        thread_id = CASE WHEN row.state = 'unknown' THEN excluded.thread_id ELSE row.thread_id END
    RETURNING deliveries > 1 AS duplicate
)
SELECT duplicate FROM known UNION ALL SELECT duplicate FROM stored
"""  # noqa: S608 - constants

# MATERIALIZED, so that the planner cannot run the locking query more than once and pass the limit.
_CLAIM: Final = """
WITH due AS MATERIALIZED (
    SELECT id FROM callbacks.inbox
    WHERE state IN ('received', 'verified') AND next_attempt_at <= now()
    ORDER BY next_attempt_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE callbacks.inbox AS row SET
    next_attempt_at = now() + CASE state WHEN 'received' THEN %(verify_lease)s ELSE %(handler_lease)s END,
    verify_attempts = verify_attempts + (state = 'received')::int,
    handler_attempts = handler_attempts + (state = 'verified')::int
FROM due WHERE row.id = due.id
RETURNING row.id, run_id, thread_id, reported_status, state, status, awaits_approval, received_at,
    verified_at,
    CASE state WHEN 'received' THEN verify_attempts ELSE handler_attempts END AS attempts
"""

_VERIFIED: Final = """
UPDATE callbacks.inbox SET state = 'verified', status = %(status)s, awaits_approval = %(awaits_approval)s,
    verified_at = now(), next_attempt_at = now()
WHERE id = %(id)s AND state = 'received'
"""

_UNKNOWN: Final = """
UPDATE callbacks.inbox SET state = 'unknown', verified_at = now(),
    last_error = 'the server knows no such run: forged, deleted, rolled back, or hidden from HOLDFAST_API_KEY'
WHERE id = %(id)s AND state = 'received'
"""

_HANDLED: Final = """
UPDATE callbacks.inbox SET state = 'handled', handled_at = now() WHERE id = %(id)s AND state = 'verified'
"""

_FAILED: Final = """
UPDATE callbacks.inbox SET next_attempt_at = now() + %(delay)s, last_error = %(error)s
WHERE id = %(id)s AND state = %(state)s
"""

_DELETE_OLD: Final = """
DELETE FROM callbacks.inbox WHERE id IN (
    SELECT id FROM callbacks.inbox
    WHERE received_at < now() - %(age)s AND state IN ('handled', 'unknown')
    ORDER BY received_at LIMIT %(limit)s
)
"""

# The engine's row, where it keeps its tables in the same database and lets this role look.
_MAY_LOOK: Final = """
SELECT coalesce(has_table_privilege(to_regclass('holdfast_pause'), 'SELECT'), false) AS may_look
"""
_PAUSED: Final = "SELECT EXISTS (SELECT FROM holdfast_pause) AS is_paused"

_COLUMNS: Final = """run_id, thread_id, reported_status, webhook_id, status, awaits_approval, state,
    deliveries, run_started_at, run_ended_at, webhook_sent_at, received_at, last_received_at, verified_at,
    handled_at, verify_attempts, handler_attempts, last_error"""
_OF_RUN: Final = f"SELECT {_COLUMNS} FROM callbacks.inbox WHERE run_id = %(run_id)s ORDER BY id"  # noqa: S608
_NEWEST: Final = f"SELECT {_COLUMNS} FROM callbacks.inbox ORDER BY id DESC LIMIT %(limit)s"  # noqa: S608


@dataclass(frozen=True)
class Claim:
    """A row that this process may work on until its lease lapses.

    In state `received` it is to be verified, in state `verified` to be handled (`status`, `awaits_approval`
    and `verified_at` are set then). `attempts` counts the tries in this state, this one included.
    """

    id: int
    run_id: UUID
    thread_id: UUID
    reported_status: str
    state: Literal["received", "verified"]
    status: str | None
    awaits_approval: bool | None
    received_at: datetime
    verified_at: datetime | None
    attempts: int


class Inbox:
    """Store, claim, conclude, list. Every method raises `DatabaseAwayError` when Postgres does not answer."""

    def __init__(self, database: Database) -> None:
        """Use this database."""
        self._database = database

    async def store(self, notification: Notification) -> bool:
        """Insert the row, or count one more delivery of it; committed on return. True if it was known."""
        rows = await self._rows(_STORE, vars(notification))
        return bool(rows[0]["duplicate"])

    async def claim(
        self, *, limit: int, verify_lease_seconds: float, handler_lease_seconds: float
    ) -> list[Claim]:
        """Take up to `limit` due rows; nobody else gets them before the lease of their state lapses.

        None while the deployment is paused: what a handler does, a copy of a deployment must not do again.
        """
        if await self.is_paused():
            return []
        values = {
            "limit": limit,
            "verify_lease": timedelta(seconds=verify_lease_seconds),
            "handler_lease": timedelta(seconds=handler_lease_seconds),
        }
        # Patient, because a claim that is committed and not heard of blocks its rows for a whole lease.
        rows = await self._rows(_CLAIM, values, timeout_seconds=PATIENT_SECONDS)
        return [Claim(**row) for row in rows]

    async def is_paused(self) -> bool:
        """Whether the deployment in the same database is told to begin nothing (`holdfast pause`)."""
        if not (await self._rows(_MAY_LOOK, {}))[0]["may_look"]:
            return False
        return bool((await self._rows(_PAUSED, {}))[0]["is_paused"])

    async def mark_verified(self, claim: Claim, *, status: str, awaits_approval: bool) -> None:
        """Keep what the server said; the row is due for its handler at once."""
        await self._run(_VERIFIED, {"id": claim.id, "status": status, "awaits_approval": awaits_approval})

    async def mark_unknown(self, claim: Claim) -> None:
        """The server has no such run: nothing more to do, unless it is reported again."""
        await self._run(_UNKNOWN, {"id": claim.id})

    async def mark_handled(self, claim: Claim) -> None:
        """The handler is through."""
        await self._run(_HANDLED, {"id": claim.id})

    async def mark_failed(self, claim: Claim, *, error: str, delay_seconds: float) -> None:
        """Keep the error and try again after the delay."""
        delay = timedelta(seconds=delay_seconds)
        text = error.replace("\0", "")  # Postgres takes no NUL in text
        await self._run(_FAILED, {"id": claim.id, "state": claim.state, "delay": delay, "error": text})

    async def delete_old(self, *, age_days: float, limit: int) -> int:
        """Delete up to `limit` finished rows older than `age_days`, none while paused; returns how many."""
        if await self.is_paused():
            return 0
        return await self._run(_DELETE_OLD, {"age": timedelta(days=age_days), "limit": limit})

    async def of_run(self, run_id: UUID) -> list[dict[str, Any]]:
        """The rows of a run, one for each status reported, oldest first."""
        return await self._rows(_OF_RUN, {"run_id": run_id})

    async def newest(self, limit: int) -> list[dict[str, Any]]:
        """The newest rows first."""
        return await self._rows(_NEWEST, {"limit": limit})

    async def _rows(
        self, statement: str, values: Mapping[str, Any], *, timeout_seconds: float = ANSWER_SECONDS
    ) -> list[dict[str, Any]]:
        async def fetch(connection: Connection) -> list[dict[str, Any]]:
            return await (await connection.execute(statement, values)).fetchall()

        return await self._database.call(fetch, timeout_seconds=timeout_seconds)

    async def _run(self, statement: str, values: Mapping[str, Any]) -> int:
        async def execute(connection: Connection) -> int:
            return (await connection.execute(statement, values)).rowcount

        return await self._database.call(execute, timeout_seconds=PATIENT_SECONDS)
