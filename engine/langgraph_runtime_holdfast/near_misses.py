"""Variables that other programs call what this one needs: told, and not passed over.

A server whose DATABASE_URL is not read would start on an embedded database, and look well until the next
deploy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_MEANT: Final[dict[str, tuple[str, ...]]] = {
    "DATABASE_URI": (
        *("DATABASE_URL", "DATABASE_DSN", "DATABASE_URI_CUSTOM", "POSTGRES_URL", "POSTGRES_DSN"),
        *("POSTGRES_URI_CUSTOM", "POSTGRES_HOST", "POSTGRESQL_URL", "POSTGRESQL_URI", "PGHOST"),
    ),
    "REDIS_URI": (
        *("REDIS_URL", "REDIS_URI_CUSTOM", "REDIS_HOST", "VALKEY_URL", "VALKEY_URI", "VALKEY_HOST"),
    ),
}


def near_miss(environment: Mapping[str, str], wanted: str) -> str:
    """Say which variable is set in place of DATABASE_URI or REDIS_URI; nothing if none is.

    Values are never shown.
    """
    found = [name for name in _MEANT[wanted] if environment.get(name, "").strip()]
    return f"{' and '.join(found)} {'is' if len(found) == 1 else 'are'} set instead" if found else ""
