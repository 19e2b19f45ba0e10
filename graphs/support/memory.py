"""What the desk remembers of a customer: how they wish to be served, and what was decided before.

It is kept in the platform's store, under a name that is made of the caller's identity and the customer's, so
nobody reads what was kept for another caller or customer. Without a store or a customer there is none.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore, SearchItem

MEMORY: Final = ("support", "memory")
KEPT: Final = {"wishes": 5, "cases": 20}  # of each customer; the oldest go
SHOWN_CASES: Final = 5
MAX_CHARACTERS: Final = 300
"""Of each thing that is remembered."""


def room_of(runtime: Runtime[Any], customer: str | None) -> str | None:
    """The name under which this caller's memory of the customer is kept."""
    if not customer:
        return None
    user = runtime.server_info.user if runtime.server_info else None
    # Hashed: in some stores a dot, a percent sign or a beginning of a name would reach into other rooms.
    told = json.dumps([user.identity if user else None, customer])
    return hashlib.sha256(told.encode()).hexdigest()


async def recall(store: BaseStore | None, room: str | None, about: str) -> dict[str, list[Any]]:
    """The customer's wishes, and the cases nearest to `about`, or else the last ones."""
    if store is None or room is None:
        return {}
    wishes = await _kept(store, room, "wishes")
    cases = await _kept(store, room, "cases", query=about)
    return {
        "wishes": [item.value["wish"] for item in wishes],
        "cases": [item.value for item in cases[:SHOWN_CASES]],
    }


async def remember(
    store: BaseStore | None, room: str | None, key: str, case: dict[str, Any], wish: str | None
) -> None:
    """Keep a case, under the same key however often it is told, and a wish if there is one."""
    if store is None or room is None:
        return
    await _keep(store, room, "cases", key, {name: _cut(value) for name, value in case.items()})
    if wish:
        name = hashlib.sha256(wish.casefold().encode()).hexdigest()
        await _keep(store, room, "wishes", name, {"wish": _cut(wish)})


async def _keep(store: BaseStore, room: str, kind: str, key: str, value: dict[str, Any]) -> None:
    await store.aput((*MEMORY, room, kind), key, value)
    for item in (await _kept(store, room, kind))[KEPT[kind] :]:
        await store.adelete(item.namespace, item.key)


async def _kept(store: BaseStore, room: str, kind: str, *, query: str | None = None) -> list[SearchItem]:
    """What is kept, the nearest and newest first; a few more than are kept may be there for a moment."""
    found = await store.asearch((*MEMORY, room, kind), query=query, limit=2 * KEPT[kind])
    return sorted(found, key=lambda item: (item.score or 0.0, item.updated_at), reverse=True)


def _cut(value: Any) -> Any:
    return value[:MAX_CHARACTERS] if isinstance(value, str) else value
