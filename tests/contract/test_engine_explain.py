"""Every search of threads that the API offers is served by an index, however many threads there are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from langgraph_runtime_holdfast.database import Handle, Parameters, Row, close_pool, connect
from langgraph_runtime_holdfast.migrate import migrate
from langgraph_runtime_holdfast.settings import settings
from tests.contract.engines import Services

PAGE = Path(__file__).resolve().parents[2] / "docs" / "schema.md"
SEED = """
INSERT INTO thread (thread_id, status, metadata, "values", created_at, updated_at, state_updated_at)
SELECT md5(n::text)::uuid,
       CASE n % 10 WHEN 0 THEN 'error' WHEN 1 THEN 'interrupted' WHEN 2 THEN 'busy' ELSE 'idle' END,
       jsonb_build_object('graph_id', 'agent', 'owner', 'user-' || n % 1000, 'number', n),
       jsonb_build_object('topic', 't' || n % 500, 'messages', jsonb_build_array(md5(n::text))),
       now() - n * interval '1 s', now() - n % 997 * interval '1 s', now() - n * interval '2 s'
FROM generate_series(1, 20000) AS n
"""
SEARCHES: dict[str, dict[str, Any]] = {
    "default": {},
    "metadata": {"metadata": {"owner": "user-7"}},
    "metadata that nearly all have": {"metadata": {"graph_id": "agent"}},
    "values": {"values": {"topic": "t42"}},
    "nested values": {"values": {"messages": ["c4ca4238a0b923820dcc509a6f75849b"]}},
    "status": {"status": "interrupted"},
    "status and metadata": {"status": "error", "metadata": {"owner": "user-10"}},
    "ids": {"ids": [UUID("c4ca4238a0b923820dcc509a6f75849b")]},
    **{
        f"{column} {direction}": {"sort_by": column, "sort_order": direction}
        for column in ("thread_id", "created_at", "updated_at", "state_updated_at", "status")
        for direction in ("asc", "desc")
    },
}


class Explaining(Handle):
    """Explains the statements that an operation runs, beside running them."""

    def __init__(self) -> None:
        """No statement yet."""
        self.plan = ""

    async def fetch(self, statement: str, parameters: Parameters = None, **_: Any) -> list[Row]:
        """Keep the plan, and return the rows."""
        plan = await super().fetch(f"EXPLAIN {statement}", parameters)
        self.plan = "\n".join(row["QUERY PLAN"] for row in plan)
        return await super().fetch(statement, parameters)


@pytest.fixture(scope="module")
def database_uri(services: Services) -> str:
    """A database of this module."""
    return services.make_database("explain")


@pytest.fixture
async def handle(database_uri: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Explaining]:
    """Many threads."""
    monkeypatch.setenv("DATABASE_URI", database_uri)
    monkeypatch.setenv("REDIS_URI", "redis://127.0.0.1:1")
    settings.cache_clear()
    await migrate(database_uri, timeout_seconds=30)
    async with connect() as opened:
        await opened.execute(SEED)
        # Not there by itself: made as the page says to those who want it.
        (wanted,) = re.findall(
            r"^CREATE INDEX CONCURRENTLY thread_values .*;$", PAGE.read_text(), re.MULTILINE
        )
        await opened.execute(wanted)
        await opened.execute("ANALYZE thread, thread_order, thread_metadata")
        yield Explaining()
    await close_pool()
    settings.cache_clear()


async def test_searches_use_indexes(handle: Explaining) -> None:
    """No search reads the whole table or sorts it whole."""
    from langgraph_runtime_holdfast.ops import Threads

    faults: dict[str, str] = {}
    for name, search in SEARCHES.items():
        wanted = {"metadata": None, "values": None, "status": None, "limit": 10, "offset": 0, **search}
        found, _ = await Threads.search(handle, **wanted)
        assert [row async for row in found], name
        if "Seq Scan" in handle.plan or not re.search(r"Index|Bitmap", handle.plan):
            faults[name] = handle.plan
    assert not faults
