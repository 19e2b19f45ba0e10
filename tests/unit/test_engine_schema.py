"""The schema that the migrations make, and the page that describes it."""

import asyncio
import re
from pathlib import Path

import psycopg
import pytest

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.migrate import LOCK, migrate
from tests.contract.engines import Services

PAGE = Path(__file__).resolve().parents[2] / "docs" / "schema.md"
OF_THE_LIBRARIES = {"checkpoints", "checkpoint_blobs", "checkpoint_writes", "store", "store_vectors"}


def test_servers_may_start_at_once_and_the_page_names_all_that_they_make(services: Services) -> None:
    uri = services.make_database("schema")
    with psycopg.connect(uri, autocommit=True) as connection:

        async def start_eight() -> list[list[str]]:
            return await asyncio.gather(*(migrate(uri, timeout_seconds=30) for _ in range(8)))

        applied = asyncio.run(start_eight())
        assert sum(map(bool, applied)) == 1
        described = set(re.findall(r"`(\w+)`", PAGE.read_text()))
        made = {
            name
            for [name] in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        }
        assert made - described == set()

        ours = sorted(
            name for name in made - OF_THE_LIBRARIES if not name.endswith(("migration", "migrations"))
        )
        columns = "SELECT column_name FROM information_schema.columns WHERE table_name = ANY(%s)"
        indexes = "SELECT indexname FROM pg_indexes WHERE tablename = ANY(%s)"
        names = {name for query in (columns, indexes) for [name] in connection.execute(query, [ours])}
        assert len(names) > 50
        assert names - described == set()

        [pid] = connection.execute("SELECT pg_backend_pid()").fetchone() or ()
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        with pytest.raises(EngineError, match=rf"wait for process {pid} .* pg_terminate_backend\({pid}\)"):
            asyncio.run(migrate(uri, timeout_seconds=0.2))
        connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])

        connection.execute("INSERT INTO holdfast_migration (version, name) VALUES (9999, 'from the future')")
        with pytest.raises(EngineError, match="schema version 9999, made by a newer engine"):
            asyncio.run(migrate(uri, timeout_seconds=5))
