"""How a thread's row is read and shown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.database import Executor, Row
from langgraph_runtime_holdfast.ops.filters import restrict
from langgraph_runtime_holdfast.ops.statement import Conditions

FIELDS: Final = (
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "status",
    "config",
    "values",
    "interrupts",
    "error",
)
_TTL_FIELDS: Final = ("ttl_minutes", "ttl_strategy", "expires_at")


def columns(names: Iterable[str] = FIELDS) -> str:
    """The SQL for these of the thread's fields; names that it does not have are left out."""
    return ", ".join(f'thread."{name}"' for name in (*FIELDS, *_TTL_FIELDS) if name in names)


async def find_thread(
    executor: Executor,
    thread_id: UUID,
    filters: Mapping[str, Any] | None,
    fields: Iterable[str] = FIELDS,
    *,
    with_ttl: bool = False,
) -> Row | None:
    """Read a thread that the caller may see; None if there is no such thread.

    Args:
        executor: What runs the statement.
        thread_id: Which one.
        filters: What the auth handler returned.
        fields: Which of its fields; fewer spare reading the state of a thread that is only checked for.
        with_ttl: Add `ttl` for a thread that expires.
    """
    conditions = Conditions()
    conditions.equal("thread_id", thread_id)
    restrict(conditions, filters, "metadata")
    names = {"thread_id", *fields, *(_TTL_FIELDS if with_ttl else ())}
    row = await executor.fetch_one(
        f"SELECT {columns(names)} FROM thread WHERE {conditions}",  # noqa: S608 - fixed names
        conditions.parameters,
        often=True,
    )
    return with_ttl_field(row) if row is not None and with_ttl else row


def with_ttl_field(row: Row) -> Row:
    """Turn the columns of the time to live into the field that the API shows."""
    minutes, strategy, expires_at = (row.pop(name) for name in _TTL_FIELDS)
    if minutes is not None:
        row["ttl"] = {"strategy": strategy, "ttl_minutes": minutes, "expires_at": expires_at}
    return row


def not_found(thread_id: UUID) -> HTTPException:
    """What is answered for a thread that is not there, or not for this caller."""
    return HTTPException(status_code=404, detail=f"Thread with ID {thread_id} not found")


async def each(*items: Any) -> AsyncIterator[Any]:
    """Give results in the form in which the API takes them."""
    for item in items:
        yield item
