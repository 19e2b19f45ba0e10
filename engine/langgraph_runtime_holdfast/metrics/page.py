"""`/metrics`, in the stock server's two formats and under its names, with the engine's own beside them.

The stock server's page asks Postgres for the queue, as long as that takes; its text tells of one process.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from langgraph_runtime_holdfast.database import connect, pool_stats
from langgraph_runtime_holdfast.metrics import get_metrics
from langgraph_runtime_holdfast.metrics.gauges import of_the_deployment
from langgraph_runtime_holdfast.metrics.shared import FOLDER, Page, Shared, added, merged

logger = structlog.stdlib.get_logger(__name__)

_ASK_SECONDS: Final = 2.0
_QUEUE: Final = (
    "n_pending",
    "n_running",
    "pending_runs_wait_time_max_secs",
    "pending_runs_wait_time_med_secs",
    "pending_unblocked_runs_wait_time_max_secs",
)

_shared: Shared | None = None


def share() -> None:
    """Begin to tell the processes that share this one's port; without others this does nothing."""
    global _shared
    if not (folder := os.environ.get(FOLDER)):
        return
    try:
        _shared = Shared(Path(folder))
    except OSError as error:
        logger.warning("Each scrape of /metrics tells of one process only", error=str(error))
        return
    _shared.write_on(lambda: (_text(), _page()))


def share_no_more() -> None:
    """Give this process's number back."""
    global _shared
    if _shared is not None:
        _shared.end()
        _shared = None


async def answer(request: Request) -> Response:
    """Answer `/metrics`; the queue's figures are null if Postgres does not answer at once."""
    from langgraph_api import config

    if request.query_params.get("format") != "json":
        return PlainTextResponse(_text_of_all(), media_type=CONTENT_TYPE_LATEST)
    others = [] if _shared is None else [page for _, page in _shared.others().values()]
    page = added([_page(), *others])
    if not config.IS_QUEUE_ENTRYPOINT:
        page["queue"] = await _queue()
    if config.N_JOBS_PER_WORKER == 0:
        del page["workers"]
    return JSONResponse(page)


def replace_stock_page() -> None:
    """Put this in the place of the stock server's own, before its application is made of its routes."""
    import langgraph_api.api as routes

    for at, route in enumerate(routes.unshadowable_meta_routes):
        if getattr(route, "path", "") == "/metrics":
            routes.unshadowable_meta_routes[at] = type(route)("/metrics", answer, methods=["GET"])
    # Beside MOUNT_PREFIX it is taken by this name.
    routes.meta_metrics = answer


def _text() -> str:
    return generate_latest().decode()


def _text_of_all() -> str:
    if _shared is None:
        return _text()
    texts = {number: text for number, (text, _) in _shared.others().items()}
    return merged({_shared.number: _text(), **texts}, _shared.number, of_the_deployment())


def _page() -> Page:
    from langgraph_api import config, metadata
    from langgraph_api.http_metrics import HTTP_METRICS_COLLECTOR

    page: Page = {**pool_stats(), **get_metrics()}
    if not config.IS_QUEUE_ENTRYPOINT:
        page |= HTTP_METRICS_COLLECTOR.get_metrics(
            metadata.PROJECT_ID, metadata.HOST_REVISION_ID, "json", metadata.DEPLOYMENT_TYPE
        )
    return page


async def _queue() -> dict[str, Any]:
    from langgraph_runtime_holdfast.ops.runs import Runs

    try:
        async with asyncio.timeout(_ASK_SECONDS), connect() as handle:
            return await Runs.stats(handle)
    except Exception as error:
        await logger.awarning("The queue cannot be counted now", error=f"{type(error).__name__}: {error}")
        return dict.fromkeys(_QUEUE)
