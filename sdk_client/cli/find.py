"""Finds a run by its id. The server keeps runs under their threads and cannot be asked for one alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from sdk_client.errors import NotFoundError
from sdk_client.models import RunHandle
from sdk_client.settings import ClientSettings
from sdk_client.transport import Transport

THREADS_LOOKED_THROUGH = 200
AT_ONCE = 8


async def find_run(run_id: str, thread_id: str | None) -> RunHandle:
    """Find a run on its thread or, without one, on the threads that changed last.

    Raises:
        NotFoundError: It is not there.
        HoldfastError: The server could not be asked.
    """
    settings = ClientSettings.from_env()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    async with aclosing(Transport(str(settings.url), api_key=key)) as transport:
        if thread_id is not None:
            return _handle(await _run_on(transport, thread_id, run_id))
        found = await _search(transport, run_id)
        if found is None:
            raise NotFoundError(
                f"No such run on the {THREADS_LOOKED_THROUGH} threads that changed last; "
                "name its thread with --thread",
                run_id=run_id,
            )
        return _handle(found)


async def _search(transport: Transport, run_id: str) -> Mapping[str, Any] | None:
    threads = await transport.call(
        "list the threads",
        lambda: transport.sdk.threads.search(
            limit=THREADS_LOOKED_THROUGH, sort_by="updated_at", sort_order="desc", select=["thread_id"]
        ),
    )
    for start in range(0, len(threads), AT_ONCE):
        some = threads[start : start + AT_ONCE]
        answers = await asyncio.gather(
            *(_run_or_none(transport, thread["thread_id"], run_id) for thread in some)
        )
        if found := _first(answers):
            return found
    return None


async def _run_or_none(transport: Transport, thread_id: str, run_id: str) -> Mapping[str, Any] | None:
    try:
        return await _run_on(transport, thread_id, run_id)
    except NotFoundError:
        return None


async def _run_on(transport: Transport, thread_id: str, run_id: str) -> Mapping[str, Any]:
    return await transport.call(
        "read the run", lambda: transport.sdk.runs.get(thread_id, run_id), run_id=run_id, thread_id=thread_id
    )


def _first(answers: Sequence[Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
    return next((answer for answer in answers if answer is not None), None)


def _handle(run: Mapping[str, Any]) -> RunHandle:
    return RunHandle(
        run_id=str(run["run_id"]),
        thread_id=str(run["thread_id"]),
        request_id=(run.get("metadata") or {}).get("request_id"),
        assistant_id=str(run["assistant_id"]),
    )
