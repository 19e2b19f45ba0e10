"""What makes a database that came back safe to serve on: nothing in it belongs to the world it is from.

Workers of that world may live on, and hold leases on runs that are here as well. So tokens go on far above
any that it can have given out, runs that were running wait again, and callbacks that were being sent are due.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from langgraph_runtime_holdfast import pause
from langgraph_runtime_holdfast.backup.database import Connection, exists, one, opened
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.foreign import FOLDER
from langgraph_runtime_holdfast.settings import settings

# By the clock: no world gives out a million a second, so each return to life begins above all before it.
_TOKENS: Final = """
SELECT setval(
    'lease_token', greatest(last_value + 1000000, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint)
) FROM lease_token
"""
# Not a death: the worker had no part in it.
_RUNS: Final = """
UPDATE run_inflight SET status = 'pending', attempt = greatest(attempt - 1, 0), lease_token = NULL,
    leased_by = NULL, leased_until = NULL, available_at = now(), updated_at = now(), listener = NULL
WHERE status = 'running'
"""
_CALLBACKS: Final = """
UPDATE outbox SET available_at = now(), claim_token = NULL, claimed_by = NULL
WHERE claim_token IS NOT NULL AND delivered_at IS NULL AND dead_at IS NULL
"""
_CRONS: Final = "UPDATE cron SET claimed_until = NULL WHERE claimed_until IS NOT NULL"
_IS_WHOLE: Final = "SELECT EXISTS (SELECT FROM holdfast_migration) AS it"
_CRONS_DUE: Final = """
SELECT cron_id, schedule, timezone, now() AS now FROM cron
WHERE enabled AND next_run_date <= now() AND (end_time IS NULL OR end_time >= now())
ORDER BY cron_id FOR UPDATE
"""
_MOVE_CRON: Final = """
UPDATE cron SET next_run_date = %(date)s, claimed_until = NULL WHERE cron_id = %(cron_id)s
"""
_PAUSE_TABLE: Final = FOLDER / "0006_pause.sql"


RESTORING: Final = "a restore is under way"
"""What is said of the pause meanwhile; who finds it later finds a restore that broke off."""


def pause_now(connection: Connection, reason: str) -> None:
    """Begin a pause, also where the table for it is not there yet."""
    if not exists(connection, "holdfast_pause"):
        connection.execute(_PAUSE_TABLE.read_text(encoding="utf-8").encode())
    connection.execute(pause.BEGIN, {"reason": reason})


def settle(connection: Connection, *, paused: bool, reason: str) -> int:
    """Make the database one that any server may serve on; returns how many runs were running.

    Args:
        connection: The database, migrated; nobody begins anything in it meanwhile.
        paused: Whether nothing begins until it is told to.
        reason: What is said of that pause.
    """
    with connection.transaction():
        connection.execute(_TOKENS)
        running = connection.execute(_RUNS).rowcount
        connection.execute(_CALLBACKS)
        connection.execute(_CRONS)
        connection.execute(pause.MORE_TIME, _retry_seconds())
        if paused:
            pause_now(connection, reason)
        else:
            connection.execute(pause.END)
    return running


def adopt(dsn: str, *, paused: bool) -> int:
    """Settle a database that came back by other means than `restore`; returns how many runs were running.

    Raises:
        EngineError: It is not this engine's, or not migrated.
    """
    with opened(dsn) as connection:
        _require(connection)
        return settle(connection, paused=paused, reason="it came back from a backup and was adopted --paused")


def begin_pause(dsn: str, reason: str) -> None:
    """Have servers begin nothing from now on.

    Raises:
        EngineError: It is not this engine's, or not migrated.
    """
    with opened(dsn) as connection:
        _require(connection)
        pause_now(connection, reason)


class Resumed(NamedTuple):
    """What the end of a pause was."""

    was_paused: bool
    crons_due: int
    """Crons one date or more of which has passed meanwhile."""


def resume(dsn: str, *, skips_crons: bool = False) -> Resumed:
    """End the pause.

    Args:
        dsn: The database.
        skips_crons: Whether a cron that missed dates waits for its next one, rather than fire once.

    Raises:
        EngineError: It is not this engine's, or not migrated.
    """
    with opened(dsn) as connection, connection.transaction():
        _require(connection)
        row = connection.execute(pause.READ).fetchone()
        if row is not None and row["reason"] == RESTORING:
            raise EngineError(
                "A restore into this database is under way, or broke off at its end, when leases of the lost "
                "world still count in it. If it broke off: `holdfast adopt`, or `holdfast adopt --paused`."
            )
        due = connection.execute(_CRONS_DUE).fetchall()
        if skips_crons:
            _skip(connection, due)
        connection.execute(pause.MORE_TIME, _retry_seconds())
        return Resumed(bool(connection.execute(pause.END).rowcount), len(due))


def _skip(connection: Connection, crons: list[dict[str, Any]]) -> None:
    # Its schedule is read as the scheduler reads it; the import takes seconds.
    from langgraph_api.utils import next_cron_date

    for cron in crons:
        date = next_cron_date(cron["schedule"], cron["now"], cron["timezone"])
        connection.execute(_MOVE_CRON, {"cron_id": cron["cron_id"], "date": date})


def _require(connection: Connection) -> None:
    known = exists(connection, "holdfast_pause") and exists(connection, "holdfast_migration")
    if not known or not one(connection, _IS_WHOLE)["it"]:
        raise EngineError(
            "The database does not have this engine's schema, or not all of a backup. Run `holdfast migrate` "
            "of this version first, or the restore again."
        )


def _retry_seconds() -> dict[str, Any]:
    return {"retry_seconds": settings().callback_retry_hours * 3600}
