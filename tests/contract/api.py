"""What the contract tests share: steps that a caller of the API takes again and again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import psycopg
from langgraph_sdk.schema import StreamPart
from psycopg import sql

DEADLINE_SECONDS = 90.0
Json = dict[str, Any]
# The contract is what goes over the wire; the SDK's own types leave some of it out.
Sdk = Any


async def thread_after(sdk: Sdk, graph: str, values: Json, **options: Any) -> str:
    """Run a graph to its end on a new thread; returns the thread's id."""
    thread_id = str((await sdk.threads.create())["thread_id"])
    await sdk.runs.wait(thread_id, graph, input=values, **options)
    return thread_id


async def values_of(sdk: Sdk, thread_id: str) -> Json:
    """The values of a thread's latest state."""
    return dict((await sdk.threads.get_state(thread_id))["values"])


async def statuses(sdk: Sdk, thread_id: str) -> dict[str, str]:
    """The status of each run of a thread, the newest first."""
    return {str(run["run_id"]): run["status"] for run in await sdk.runs.list(thread_id, limit=100)}


async def until(fact: Callable[[], Awaitable[Any]], what: str, seconds: float = DEADLINE_SECONDS) -> Any:
    """Ask again until a fact holds; returns what it said.

    Raises:
        AssertionError: It did not hold in time; names it and what it said last.
    """
    deadline = time.monotonic() + seconds
    while not (answer := await fact()):
        assert time.monotonic() < deadline, f"still not after {seconds} s: {what} ({answer!r})"
        await asyncio.sleep(0.05)
    return answer


async def until_status(sdk: Sdk, thread_id: str, run_id: str, *wanted: str) -> str:
    """Wait until a run has one of the statuses; returns it."""

    async def reached() -> str | None:
        status = (await sdk.runs.get(thread_id, run_id))["status"]
        return status if status in wanted else None

    return str(await until(reached, f"run {run_id} is {' or '.join(wanted)}"))


async def until_visited(sdk: Sdk, thread_id: str, node: str) -> None:
    """Wait until a node of the `slow` graph has run on a thread."""

    async def visited() -> bool:
        return node in ((await sdk.threads.get_state(thread_id))["values"] or {}).get("visited", [])

    await until(visited, f"{node} has run")


async def expect_refusals(http: httpx.AsyncClient, cases: list[tuple[str, str, Any, int, str]]) -> None:
    """Send bad requests at once and check each answer's status and part of its text.

    Args:
        http: who to ask.
        cases: (method, path, body, status, text); a body of bytes or text goes out as it is.
    """

    async def ask(case: tuple[str, str, Any, int, str]) -> str | None:
        method, path, body, status, text = case
        sent = {"content": body} if isinstance(body, bytes | str) else {} if body is None else {"json": body}
        answer = await http.request(method, path, **sent)
        if answer.status_code == status and text.lower() in answer.text.lower():
            return None
        got = f"{answer.status_code} {answer.text[:300]}"
        return f"{method} {path} {str(body)[:200]}: {got} (want {status} {text!r})"

    wrong = [fault for fault in await asyncio.gather(*map(ask, cases)) if fault]
    assert not wrong, "\n".join(wrong)


def rows_of_thread(database_uri: str, thread_id: str) -> dict[str, int]:
    """How many rows each table keeps for a thread; only tables that keep some."""
    found = {}
    with psycopg.connect(database_uri, autocommit=True) as connection:
        for table in _tables(connection, with_column="thread_id"):
            statement = sql.SQL("SELECT count(*) FROM {} WHERE thread_id::text = %s").format(table)
            row = connection.execute(statement, [thread_id]).fetchone()
            if row and row[0]:
                found[table.as_string()] = row[0]
    return found


def tables_with(database_uri: str, text: str) -> list[str]:
    """The tables in which a text stands somewhere."""
    found = []
    with psycopg.connect(database_uri, autocommit=True) as connection:
        for table in _tables(connection, with_column="%"):
            statement = sql.SQL("SELECT FROM {} AS kept WHERE kept::text LIKE %s LIMIT 1").format(table)
            if connection.execute(statement, [f"%{text}%"]).fetchone() is not None:
                found.append(table.as_string())
    return found


def _tables(connection: psycopg.Connection, with_column: str) -> list[sql.Identifier]:
    """The deployment's tables that have a column whose name is like this."""
    rows = connection.execute(
        "SELECT DISTINCT table_schema, table_name FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE column_name LIKE %s AND table_type = 'BASE TABLE'"
        " AND table_schema NOT IN ('pg_catalog', 'information_schema')",
        [with_column],
    ).fetchall()
    assert rows
    return [sql.Identifier(schema, table) for schema, table in rows]


async def parts_of(answer: httpx.Response) -> AsyncIterator[StreamPart]:
    """The parts of an answer that is still coming in."""
    part: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name:
            part[name] = value
        elif "event" in part:
            yield StreamPart(part["event"], json.loads(part["data"]), part.get("id"))
            part = {}
