"""What callers are told when Postgres does not answer, and what is tried again."""

from __future__ import annotations

import psycopg
import pytest
from psycopg_pool import PoolTimeout
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.availability import LimitExceededError, is_limit, refusals
from langgraph_runtime_holdfast.retry import RETRIABLE_EXCEPTIONS, must_not_repeat, retry_db

REFUSED = 'connection to server at "10.0.0.7", port 5432 failed: FATAL:  sorry, too many clients already'


async def told(error: Exception, *, creates: bool = False) -> tuple[HTTPException, int]:
    """The answer to a caller whose handler raises this, and how often it was tried."""
    tries = 0

    @retry_db
    async def handler() -> None:
        nonlocal tries
        tries += 1
        if creates:
            must_not_repeat()
        raise error

    with pytest.raises(HTTPException) as answer:
        await handler()
    return answer.value, tries


@pytest.mark.parametrize(
    ("error", "text", "seconds", "tries"),
    [
        (psycopg.errors.DiskFull(), "its disk is full", "15", 4),
        (psycopg.errors.TooManyConnections(), "too many clients", "15", 4),
        (psycopg.errors.CannotConnectNow(), "starting up", "2", 4),
        (psycopg.errors.AdminShutdown(), "was lost", "2", 4),
        (psycopg.errors.ReadOnlySqlTransaction(), "read-only", "2", 4),
        (PoolTimeout("couldn't get a connection"), "no connection became free", "2", 1),
    ],
)
async def test_it_is_503_with_the_reason(error: Exception, text: str, seconds: str, tries: int) -> None:
    answer, tried = await told(error)
    assert (answer.status_code, tried) == (503, tries)
    assert text in answer.detail
    assert answer.headers == {"Retry-After": seconds}


async def test_what_a_connection_was_refused_with_is_told_without_an_address() -> None:
    refusals.note(psycopg.OperationalError(REFUSED))
    try:
        answer, _ = await told(PoolTimeout("couldn't get a connection"))
    finally:
        refusals.note_success()
    assert "too many clients" in answer.detail
    assert "10.0.0.7" not in answer.detail
    after, _ = await told(PoolTimeout("couldn't get a connection"))
    assert "too many clients" not in after.detail


async def test_a_creation_is_not_repeated_and_the_caller_told_to_look() -> None:
    answer, tried = await told(psycopg.errors.AdminShutdown(), creates=True)
    assert tried == 1
    assert "look before you try again" in answer.detail


async def test_what_postgres_can_never_hold_is_final() -> None:
    answer, tried = await told(LimitExceededError("total size of jsonb object elements exceeds the maximum"))
    assert (answer.status_code, tried) == (422, 1)
    assert is_limit(psycopg.errors.ProgramLimitExceeded())
    assert is_limit(psycopg.errors.StatementTooComplex())
    assert not issubclass(LimitExceededError, RETRIABLE_EXCEPTIONS)
