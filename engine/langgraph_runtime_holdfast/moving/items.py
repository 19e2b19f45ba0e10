"""Taking items of the store, some at a time, by this deployment's own store: it may seal and index them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from langgraph.store.base import GetOp, PutOp
from psycopg import Error as DatabaseError
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.database import Handle
from langgraph_runtime_holdfast.moving.content import OldItem
from langgraph_runtime_holdfast.moving.report import Report
from langgraph_runtime_holdfast.store import Store

_MOMENTS: Final = """
UPDATE store SET created_at = coalesce(given.created_at, store.created_at),
    updated_at = coalesce(given.updated_at, store.updated_at),
    ttl_minutes = given.ttl_minutes, expires_at = given.expires_at
FROM unnest(%(prefixes)s::text[], %(keys)s::text[], %(created)s::timestamptz[], %(updated)s::timestamptz[],
            %(minutes)s::double precision[], %(expires)s::timestamptz[])
    AS given (prefix, key, created_at, updated_at, ttl_minutes, expires_at)
WHERE store.prefix = given.prefix AND store.key = given.key
"""
MOST_BYTES: Final = 4_000_000
MOST_ITEMS: Final = 50


async def take_items(handle: Handle, batch: Sequence[OldItem], report: Report) -> None:
    """Bring items that are not here; one that is here with another value stays, and is told."""
    found = await Store().abatch(GetOp(item.namespace, item.key, refresh_ttl=False) for item in batch)
    new = []
    for item, here in zip(batch, found, strict=True):
        if here is None:
            new.append(item)
        elif _plain(here.value) == _plain(item.value):  # type: ignore[union-attr]
            report.pass_over("items")
        else:
            report.leave("items", _name(item), "it is here with another value, which stays")
    if not new:
        return
    if report.is_dry:
        for _ in new:
            report.take("items")
        return
    try:
        await _put(handle, new)
    except (HTTPException, DatabaseError) as error:
        if len(new) > 1:
            for each in new:
                await take_items(handle, [each], report)
            return
        why = error.detail if isinstance(error, HTTPException) else error
        report.leave("items", _name(new[0]), why)
        return
    for _ in new:
        report.take("items")


async def _put(handle: Handle, new: Sequence[OldItem]) -> None:
    await Store().abatch(PutOp(item.namespace, item.key, item.value, ttl=item.ttl_minutes) for item in new)
    await handle.execute(
        _MOMENTS,
        {
            "prefixes": [".".join(item.namespace) for item in new],
            "keys": [item.key for item in new],
            "created": [item.created_at for item in new],
            "updated": [item.updated_at for item in new],
            "minutes": [item.ttl_minutes for item in new],
            "expires": [item.expires_at for item in new],
        },
    )


def _plain(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _name(item: OldItem) -> str:
    return f"{'.'.join(item.namespace)}/{item.key}"
