"""Finding the pauses that wait, over all threads or on one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import chain
from typing import Any
from uuid import UUID

from sdk_client.begun import runs_begun
from sdk_client.errors import ConfigurationError, NotFoundError
from sdk_client.pauses import Approval, approvals_in
from sdk_client.snapshots import snapshot_of
from sdk_client.transport import Transport

_PAGE = 1000  # in one request: between two, threads that are decided on would move others past the next page
_CHUNK = 50
_AT_ONCE = 8


class Waiting:
    """Reads what waits for a human."""

    def __init__(self, transport: Transport) -> None:
        """Read through the transport."""
        self._transport = transport

    async def everywhere(self, assistant_id: str | None, *, limit: int) -> list[Approval]:
        """List the pauses of all threads, or of an assistant's; see `Approvals.list_waiting`."""
        if not 1 <= limit <= 1000:
            raise ConfigurationError(f"limit is {limit}; it must be 1 to 1000.")
        metadata = {} if assistant_id is None else {_assistant_key(assistant_id): assistant_id}
        waiting: list[Approval] = []
        offset = 0
        gate = asyncio.Semaphore(_AT_ONCE)

        async def read(thread: Mapping[str, Any]) -> tuple[Approval, ...]:
            async with gate:
                try:
                    return await self.pauses_of(thread)
                except NotFoundError:
                    return ()  # deleted since the search

        while len(waiting) < limit:
            page = await self._transport.call(
                "list waiting threads",
                lambda offset=offset: self._transport.sdk.threads.search(  # type: ignore[misc]
                    status="interrupted",
                    metadata=metadata,
                    limit=_PAGE,
                    offset=offset,
                    sort_by="updated_at",
                    sort_order="desc",
                    select=["thread_id", "metadata", "status"],
                ),
            )
            for start in range(0, len(page), _CHUNK):
                if len(waiting) < limit:
                    chunk = page[start : start + _CHUNK]
                    waiting.extend(chain.from_iterable(await asyncio.gather(*map(read, chunk))))
            if len(page) < _PAGE:
                break
            offset += _PAGE
        if assistant_id is not None and not waiting:
            await self._refuse_unknown(assistant_id)
        return waiting[:limit]

    async def _refuse_unknown(self, assistant_id: str) -> None:
        """Nothing waits for an assistant that does not exist either; raises NotFoundError."""
        sdk = self._transport.sdk

        async def ask() -> None:
            if _assistant_key(assistant_id) == "graph_id":
                await sdk.assistants.search(graph_id=assistant_id, limit=1)
            else:
                await sdk.assistants.get(assistant_id)

        await self._transport.call(f"find an assistant {assistant_id!r}", ask)

    async def thread(self, thread_id: str) -> Mapping[str, Any]:
        """Read a thread; raises NotFoundError."""
        return await self._transport.call(
            "read the thread", lambda: self._transport.sdk.threads.get(thread_id), thread_id=thread_id
        )

    async def state(self, thread_id: str) -> Mapping[str, Any]:
        """Read where a thread stands."""
        return await self._transport.call(
            "read the thread's state",
            lambda: self._transport.sdk.threads.get_state(thread_id),
            thread_id=thread_id,
        )

    async def pauses_of(self, thread: Mapping[str, Any]) -> tuple[Approval, ...]:
        """List the pauses of a thread that was read; empty when it waits for nobody."""
        if thread.get("status") != "interrupted":
            return ()
        thread_id = str(thread["thread_id"])
        metadata = thread.get("metadata") or {}
        runs = await runs_begun(self._transport, thread_id, ["assistant_id"])
        # A cancelled run also leaves its thread "interrupted" with nodes to run; only a run that ended well
        # has paused.
        if not runs or runs[0].get("status") != "success":
            return ()
        return approvals_in(
            snapshot_of(await self.state(thread_id)),
            thread_id=thread_id,
            assistant_id=str(runs[0].get("assistant_id") or metadata.get("assistant_id")),
            graph_id=metadata.get("graph_id"),
        )


def _assistant_key(assistant_id: str) -> str:
    try:
        UUID(assistant_id)
    except ValueError:
        return "graph_id"
    return "assistant_id"
