"""One examination: every check in order, each told as soon as it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from langgraph_runtime_holdfast.doctor.finding import Finding, ok
from langgraph_runtime_holdfast.doctor.project import (
    check_auth,
    check_environment,
    check_graphs,
    check_server,
    check_traces,
    check_webhooks,
    open_project,
)
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.settings import settings


async def examine(config: Path) -> AsyncIterator[Finding]:
    """Look at a deployment and its services; changes this process's environment, but nothing outside.

    Args:
        config: The path of langgraph.json, a whole one.
    """
    deployment, found = open_project(config)
    environment = list(check_environment(config.parent))
    for finding in [*environment, *found]:
        yield finding
    if deployment is not None:
        yield check_server()
        for finding in await check_graphs(config):
            yield finding
        yield check_auth(deployment)
    try:
        known = settings()
    except EngineError:
        return  # told with the environment; what the services are is not known
    if deployment is not None:
        yield check_traces(deployment)
        for finding in check_webhooks(deployment):
            yield finding
    if not (known.database_uri or known.postgres_uri):
        yield ok("postgres", "no DATABASE_URI: `holdfast serve` starts it and Valkey, and makes secrets")
        return
    # Not before: its modules read the environment that was made above.
    from langgraph_runtime_holdfast.doctor.services import check_postgres, check_valkey

    wants_vectors = deployment is not None and bool((deployment.manifest.get("store") or {}).get("index"))
    async for finding in check_postgres(wants_vectors=wants_vectors):
        yield finding
    for finding in await check_valkey():
        yield finding
