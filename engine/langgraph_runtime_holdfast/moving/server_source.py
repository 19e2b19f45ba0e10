"""Any LangGraph server, read through its API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID

import httpx
import orjson
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIError

from langgraph_runtime_holdfast.database import Transaction
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.moving.content import (
    NotTakenError,
    OldAssistant,
    OldCron,
    OldItem,
    OldThread,
)
from langgraph_runtime_holdfast.moving.rebuild import Rebuilder, same
from langgraph_runtime_holdfast.ops.thread_state import open_graph

_PAGE: Final = 100
_ITEMS: Final = 20
_FIELDS: Final = ("thread_id", "status", "metadata", "created_at", "updated_at", "state_updated_at")
_LONGEST_PAGE: Final = 200
_LARGE_BYTES: Final = 2_000_000
_ATTEMPTS: Final = 4
_SECONDS: Final = 120.0
_MOST_NOTES: Final = 100
_IDS: Final = """
SELECT checkpoint_id FROM checkpoints WHERE thread_id = %(id)s AND checkpoint_ns = '' ORDER BY 1 DESC
"""


class ServerSource:
    """A server's threads, assistants, crons and items."""

    kind = "server"

    def __init__(self, client: LangGraphClient) -> None:
        """Ask by this client."""
        self._client = client
        self.notes: list[str] = []
        self._read: tuple[str, list[str], dict[str, Any]] | None = None
        """Of the thread that was read last: its id, its checkpoints and its newest state."""

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str, headers: dict[str, str]) -> AsyncIterator[Self]:
        """Connect.

        Raises:
            EngineError: No such server answers there, or not with this key.
        """
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_SECONDS) as http:
            source = cls(LangGraphClient(http))
            try:
                await source._client.threads.search(limit=1)
                await source._client.assistants.search(limit=1)
            except (httpx.HTTPError, APIError, httpx.InvalidURL, ValueError) as error:
                raise _refusal(url, error) from error
            yield source

    async def threads(self) -> AsyncIterator[OldThread]:
        """Each thread, the oldest first, so that new ones come last."""
        offset = 0
        while True:
            page = await _patiently(
                lambda offset=offset: self._client.threads.search(  # type: ignore[misc]
                    limit=_PAGE,
                    offset=offset,
                    sort_by="created_at",
                    sort_order="asc",
                    select=list(_FIELDS),  # type: ignore[arg-type]
                )
            )
            for row in page:
                thread = _thread(row)
                if thread.graph_id is None and not thread.fault:
                    found = await _patiently(
                        lambda row=row: self._client.threads.get_history(row["thread_id"], limit=1)  # type: ignore[misc]
                    )
                    thread = replace(thread, is_empty=not any(each["checkpoint"] for each in found))
                yield thread
            if len(page) < _PAGE:
                return
            offset += len(page)

    async def write(self, thread: OldThread, tx: Transaction, new_id: UUID, graph_id: str) -> None:
        """Make each checkpoint of the thread's history; its times and ids are the source's."""
        ids: list[str] = []
        newest: dict[str, Any] = {}
        config = {"configurable": {"thread_id": str(new_id), "checkpoint_ns": ""}}
        async with open_graph(graph_id, {"config": {}}, config, "threads.read") as (graph, saver):
            saver.work_in(tx)
            rebuilder = Rebuilder(saver, graph, str(new_id))
            async for state in self._history(thread.thread_id):
                is_newest = not ids
                if is_newest:
                    newest = await self._newest(thread.thread_id, state)
                    self._note_neighbours(thread.thread_id, newest)
                ids.append(state["checkpoint"]["checkpoint_id"])
                await rebuilder.add(newest if is_newest else state, is_newest=is_newest)
        now = _thread(dict(await _patiently(lambda: self._client.threads.get(thread.thread_id))))
        if now.fingerprint != thread.fingerprint:
            raise NotTakenError("it changed while it was read; import again")
        self._read = (thread.thread_id, ids, newest)

    async def _newest(self, thread_id: str, state: dict[str, Any]) -> dict[str, Any]:
        """The newest state with those of its subgraphs, if something waits."""
        if not state["next"]:
            return state
        whole = await _patiently(lambda: self._client.threads.get_state(thread_id, subgraphs=True))
        if whole["checkpoint"]["checkpoint_id"] != state["checkpoint"]["checkpoint_id"]:
            raise NotTakenError("it changed while it was read; import again")
        return dict(whole)

    def _note_neighbours(self, thread_id: str, state: dict[str, Any]) -> None:
        done = [each["name"] for each in state["tasks"] if each.get("result") is not None]
        if state["next"] and state["next"] != ["__start__"] and done and len(self.notes) < _MOST_NOTES:
            self.notes.append(
                f"thread {thread_id} waits beside {', '.join(done)}, which had ended, and runs again here "
                "when the thread goes on: the API does not show what it wrote"
            )

    async def _history(self, thread_id: str) -> AsyncIterator[dict[str, Any]]:
        before = ""
        size = 4
        while True:
            # Not the SDK's own call: the stock in-memory server has an error for the object that it sends.
            parameters = {"limit": size, **({"before": before} if before else {})}
            page: Any = await _patiently(
                lambda parameters=parameters: self._client.http.get(  # type: ignore[misc]
                    f"/threads/{thread_id}/history", params=parameters
                )
            )
            for state in page:
                if state["checkpoint"] is not None:
                    yield dict(state)
            if len(page) < size:
                return
            before = page[-1]["checkpoint"]["checkpoint_id"]
            size = 1 if len(orjson.dumps(page)) > _LARGE_BYTES else min(size * 2, _LONGEST_PAGE)

    async def difference(self, thread: OldThread, tx: Transaction, new_id: UUID, graph_id: str) -> str:
        """Compare the newest state, and which checkpoints there are."""
        if self._read is None or self._read[0] != thread.thread_id:
            ids = []
            newest: dict[str, Any] = {}
            async for state in self._history(thread.thread_id):
                newest = newest or state
                ids.append(state["checkpoint"]["checkpoint_id"])
        else:
            _, ids, newest = self._read
        here = [row["checkpoint_id"] for row in await tx.fetch(_IDS, {"id": str(new_id)})]
        if sorted(here) != sorted(ids):
            return f"it has {len(here)} checkpoints here and {len(ids)} there, or others"
        if not newest:
            return ""
        config = {"configurable": {"thread_id": str(new_id), "checkpoint_ns": ""}}
        async with open_graph(graph_id, {"config": {}}, config, "threads.read", as_json=True) as (
            graph,
            saver,
        ):
            saver.work_in(tx)
            state = await graph.aget_state(config)
        return _told(state, newest)

    async def assistants(self) -> AsyncIterator[OldAssistant]:
        """Each assistant that no server made of a graph by itself."""
        offset = 0
        while True:
            page: Any = await _patiently(
                lambda offset=offset: self._client.assistants.search(  # type: ignore[misc]
                    limit=_PAGE, offset=offset, sort_by="created_at", sort_order="asc"
                )
            )
            for row in page:
                if (row.get("metadata") or {}).get("created_by") == "system":
                    continue
                versions: Any = await _patiently(
                    lambda row=row: self._client.assistants.get_versions(  # type: ignore[misc]
                        row["assistant_id"], limit=1000
                    )
                )
                yield OldAssistant(
                    row["assistant_id"],
                    row["version"],
                    [dict(each) for each in versions],
                    moment(row["created_at"]),
                    moment(row["updated_at"]),
                )
            if len(page) < _PAGE:
                return
            offset += len(page)

    async def crons(self) -> AsyncIterator[OldCron]:
        """Each cron, if the server has crons."""
        offset = 0
        while True:
            try:
                page: Any = await _patiently(
                    lambda offset=offset: self._client.crons.search(limit=_PAGE, offset=offset)  # type: ignore[misc]
                )
            except APIError as error:
                self.notes.append(f"the source does not tell of crons ({error})")
                return
            for row in page:
                yield cron(row)
            if len(page) < _PAGE:
                return
            offset += len(page)

    async def items(self) -> AsyncIterator[OldItem]:
        """Each item of the store."""
        offset = 0
        while True:
            found: Any = await _patiently(
                lambda offset=offset: self._client.store.search_items(  # type: ignore[misc]
                    (), limit=_ITEMS, offset=offset, refresh_ttl=False
                )
            )
            for row in found["items"]:
                yield OldItem(
                    tuple(row["namespace"]),
                    row["key"],
                    row["value"],
                    moment(row["created_at"]),
                    moment(row["updated_at"]),
                )
            if len(found["items"]) < _ITEMS:
                return
            offset += len(found["items"])


def cron(row: dict[str, Any]) -> OldCron:
    """A cron as the API shows it."""
    return OldCron(
        row["cron_id"],
        row["assistant_id"],
        row["schedule"],
        row["payload"],
        row.get("thread_id"),
        row.get("user_id"),
        row.get("timezone"),
        moment(row.get("end_time")),
        row.get("metadata") or {},
        row.get("on_run_completed"),
        row.get("enabled", True),
    )


def moment(text: str | None) -> datetime | None:
    """A date and time of the API."""
    return datetime.fromisoformat(text) if text else None


def _thread(row: dict[str, Any]) -> OldThread:
    metadata = row.get("metadata") or {}
    fault = "a run works on it there, or waits to: let it end, and import again"
    return OldThread(
        row["thread_id"],
        f"{row['updated_at']} {row.get('state_updated_at') or ''} {row['status']}",
        metadata=metadata,
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
        graph_id=metadata.get("graph_id"),
        traits={name: value for name, value in metadata.items() if isinstance(value, str)},
        fault=fault if row["status"] == "busy" else "",
        is_error=row["status"] == "error",
    )


def _told(here: Any, there: dict[str, Any]) -> str:
    from langgraph_api.serde import json_dumpb
    from langgraph_api.state import state_snapshot_to_thread_state

    shown = orjson.loads(json_dumpb(state_snapshot_to_thread_state(here)))
    if not same(shown["values"], there["values"]):
        names = shown["values"].keys() | there["values"].keys()
        other = [
            name for name in sorted(names) if not same(shown["values"].get(name), there["values"].get(name))
        ]
        return f"the values of {', '.join(other)} would be others"
    waits = [
        sorted(each["name"] for each in state["tasks"] if not each.get("result")) for state in (shown, there)
    ]
    if set(there["next"]) - set(shown["next"]):
        return f"{there['next']} is next there, {shown['next']} here ({waits})"
    asked = [
        sorted(pause["id"] for task in state["tasks"] for pause in task["interrupts"])
        for state in (shown, there)
    ]
    return "" if asked[0] == asked[1] else "it would not ask the same here"


async def _patiently(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask again where the network, or a server that is busy, is to blame."""
    for attempt in range(_ATTEMPTS):
        try:
            return await ask()
        except (httpx.TransportError, APIError) as error:
            status = getattr(error, "status_code", None)
            if attempt == _ATTEMPTS - 1 or (status is not None and status < 500 and status != 429):
                raise
            await asyncio.sleep(0.5 * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _refusal(url: str, error: Exception) -> EngineError:
    status = getattr(error, "status_code", None)
    if status in (401, 403):
        return EngineError(
            f"The server at {url} refuses the key ({status}); give one that may read everything in "
            "HOLDFAST_IMPORT_KEY, or what else it asks for in HOLDFAST_IMPORT_HEADERS."
        )
    if isinstance(error, APIError):
        return EngineError(f"What answers at {url} is no LangGraph server: {_one_line(error)}.")
    return EngineError(f"The server at {url} cannot be reached: {_one_line(error) or type(error).__name__}.")


def _one_line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".")
