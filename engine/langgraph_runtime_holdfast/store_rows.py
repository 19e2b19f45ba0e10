"""What the engine adds to the tables of the store, which the library makes, and what it checks in them."""

from __future__ import annotations

from typing import Final

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from langgraph_runtime_holdfast.errors import EngineError

ADDITIONS: Final = (
    # The library rounds to whole minutes, so half a minute becomes none, and the first read expires the item.
    """
    DO $$ BEGIN
        IF (SELECT data_type FROM information_schema.columns WHERE table_schema = current_schema()
            AND table_name = 'store' AND column_name = 'ttl_minutes') = 'integer' THEN
            ALTER TABLE store ALTER COLUMN ttl_minutes TYPE double precision;
        END IF;
    END $$
    """,
)
"""Run after the library's own migrations."""

_DIMENSIONS: Final = """
SELECT atttypmod AS dimensions FROM pg_attribute
WHERE attrelid = to_regclass('store_vectors') AND attname = 'embedding' AND atttypmod > 0
"""


async def check_dimensions(connection: AsyncConnection[DictRow], dimensions: int) -> None:
    """Compare the configured number of dimensions with that of the vectors which are stored.

    Raises:
        EngineError: They differ, so that nothing could be stored or found.
    """
    row = await (await connection.execute(_DIMENSIONS)).fetchone()
    if row is not None and row["dimensions"] != dimensions:
        raise EngineError(
            f"store.index.dims in langgraph.json is {dimensions}, and the database holds vectors of "
            f"{row['dimensions']} dimensions. Set it back, or drop the tables store_vectors and "
            "vector_migrations and store the items again."
        )
