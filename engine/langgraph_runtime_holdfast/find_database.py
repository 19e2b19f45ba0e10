"""The database that a command is about: DATABASE_URI, or the Postgres that runs in the data folder."""

from __future__ import annotations

import os
from pathlib import Path

from langgraph_runtime_holdfast.errors import EngineError


def find_database(config: Path) -> str:
    """Its address, for libpq; changes this process's environment to the one that the manifest names.

    Args:
        config: langgraph.json, whose `env` may name the database; it need not be there.

    Raises:
        EngineError: There is none.
    """
    from langgraph_runtime_holdfast.deployment import manifest_environment
    from langgraph_runtime_holdfast.local.manifest import read_manifest
    from langgraph_runtime_holdfast.local.postgres import running_uri
    from langgraph_runtime_holdfast.settings import settings

    config = config.resolve()
    if config.exists():
        for name, value in manifest_environment(config, read_manifest(config)).items():
            os.environ.setdefault(name, value)
    if settings().database_uri or settings().postgres_uri:
        return settings().dsn
    home = (config.parent / Path(os.environ.get("HOLDFAST_HOME") or ".holdfast").expanduser()).resolve()
    if (uri := running_uri(home / "postgres")) is None:
        raise EngineError(
            f"DATABASE_URI is not set, and no Postgres runs in {home}. Set it, or start the server."
        )
    return uri
