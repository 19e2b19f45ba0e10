"""The schema that the migrations make, its snapshot, and the page that describes it."""

import asyncio
import re
import subprocess
from collections import defaultdict
from pathlib import Path

import psycopg
import pytest

from langgraph_runtime_holdfast import schema_files, schema_snapshot
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.migrate import migrate
from langgraph_runtime_holdfast.migration_lock import LOCK
from tests.contract.engines import Services
from tests.deploy.rehearsal.base import BASE

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "schema.md"
OF_THE_LIBRARIES = {
    *("checkpoints", "checkpoint_blobs", "checkpoint_writes", "checkpoint_migrations"),
    *("store", "store_migrations"),
}
ONLY_WITH_VECTORS = {"store_vectors", "vector_migrations"}
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
COLUMNS = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
INDEXES = "SELECT tablename, indexname FROM pg_indexes WHERE schemaname = 'public'"
CALLED = """
SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype
"""

Names = dict[str, set[str]]


@pytest.fixture(scope="module")
def uri(services: Services) -> str:
    """A database that eight servers have migrated at once."""
    made = services.make_database("schema")

    async def start_eight() -> list[list[str]]:
        return await asyncio.gather(*(migrate(made, timeout_seconds=30) for _ in range(8)))

    assert sum(map(bool, asyncio.run(start_eight()))) == 1
    return made


def test_the_snapshot_is_what_the_migrations_make(uri: str) -> None:
    made, kept = schema_snapshot.snapshot(uri), schema_snapshot.FILE.read_text()
    assert made == kept, (
        "run `python -m langgraph_runtime_holdfast.schema_snapshot` and look at the difference"
    )


def test_the_page_says_of_each_table_what_it_has_and_nothing_else(uri: str) -> None:
    with psycopg.connect(uri) as connection:
        tables = {name for [name] in connection.execute(TABLES)}
        columns, indexes = (_by_table(connection.execute(query).fetchall()) for query in (COLUMNS, INDEXES))
        functions = {name for [name] in connection.execute(CALLED)}
    text = PAGE.read_text()
    assert _first_cells(text.split("\n## ", 1)[0]) == tables | ONLY_WITH_VECTORS
    sections = {part.split("\n", 1)[0].strip("`"): part for part in text.split("\n## ")[1:]}
    ours = tables - OF_THE_LIBRARIES
    assert sections.keys() & tables == ours
    for table in ours:
        assert _first_cells(sections[table]) == columns[table], table
        (told,) = re.findall(r"^Indexes: (.*?)(?:\n\n|\Z)", sections[table], re.MULTILINE | re.DOTALL)
        assert set(re.findall(r"`(\w+)`", told)) == indexes[table], table
    assert _first_cells(sections["Functions"]) == functions


def _by_table(rows: list[tuple[str, str]]) -> Names:
    found: Names = defaultdict(set)
    for table, name in rows:
        found[table].add(name)
    return found


def _first_cells(text: str) -> set[str]:
    """The names in the first column of a section's table."""
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_a_function_has_a_file_and_a_version_and_stays_as_it_was_released() -> None:
    for name, text in schema_files.functions().items():
        assert re.fullmatch(r"[a-z_]+_v\d+", name)
        assert re.findall(r"^CREATE.*? FUNCTION (\w+)", text, re.MULTILINE) == [name], "one a file, and new"
        assert "OR REPLACE" not in text, "servers of the version before call the one that is there"
    folder = Path(schema_files.__file__).parent.relative_to(ROOT)
    released = _git("ls-tree", "-r", "--name-only", BASE, f"{folder}/migrations/", f"{folder}/functions/")
    if released is None:
        pytest.skip(f"{BASE} is not in this clone (a shallow one?): git fetch --unshallow")
    for path in released.split():
        assert (ROOT / path).read_text() == _git("show", f"{BASE}:{path}"), (
            f"{path} was released: add another"
        )


def test_functions_are_called_by_the_names_of_their_arguments() -> None:
    """So that a call says what it gives, and a function may get another argument with a default."""
    folder = Path(schema_files.__file__).parent
    sources = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    for name in schema_files.functions():
        calls = re.findall(rf"\b{name}\((\s*\w+ =>)?", sources)
        assert all(calls), name


def _git(*arguments: str) -> str | None:
    ended = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return ended.stdout if ended.returncode == 0 else None


def test_who_holds_the_lock_is_named_and_a_newer_schema_refused(services: Services) -> None:
    uri = services.make_database("schema_refused")
    asyncio.run(migrate(uri, timeout_seconds=30))
    with psycopg.connect(uri, autocommit=True) as connection:
        [pid] = connection.execute("SELECT pg_backend_pid()").fetchone() or ()
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        with pytest.raises(EngineError, match=rf"wait for process {pid} .* pg_terminate_backend\({pid}\)"):
            asyncio.run(migrate(uri, timeout_seconds=0.2))
        connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])

        newest = schema_files.migrations()[-1].version
        connection.execute("INSERT INTO holdfast_schema VALUES (9998, 'expands', %s)", [newest])
        assert asyncio.run(migrate(uri, timeout_seconds=5)) == []
        connection.execute("INSERT INTO holdfast_schema VALUES (9999, 'contracts', 9998)")
        with pytest.raises(
            EngineError, match=f"version 9999, .* knows version 9998; this one knows {newest}"
        ):
            asyncio.run(migrate(uri, timeout_seconds=5))
