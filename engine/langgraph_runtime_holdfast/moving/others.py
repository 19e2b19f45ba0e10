"""Taking assistants with their versions, and crons, which do not fire here before they are told to."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import UUID

import orjson
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.database import Handle, Row, Transaction
from langgraph_runtime_holdfast.moving.content import NotTakenError, OldAssistant, OldCron, new_id
from langgraph_runtime_holdfast.moving.session import graphs
from langgraph_runtime_holdfast.ops.cron_schedule import next_date
from langgraph_runtime_holdfast.ops.encryption import decrypted, encrypted, using_custom_encryption
from langgraph_runtime_holdfast.ops.statement import json_text

_SECRETS: Final = ("config", "context", "metadata")
_FIELDS: Final = ("graph_id", "name", "description", *_SECRETS)
_VERSIONS: Final = """
SELECT version, graph_id, name, description, config, context, metadata FROM assistant_version
WHERE assistant_id = %(id)s ORDER BY version
"""
_LATEST: Final = "SELECT version FROM assistant WHERE assistant_id = %(id)s FOR UPDATE"
_ADD_VERSION: Final = """
INSERT INTO assistant_version
    (assistant_id, version, graph_id, name, description, config, context, metadata, created_at)
VALUES (%(id)s, %(version)s, %(graph_id)s, %(name)s, %(description)s, %(config)s::jsonb, %(context)s::jsonb,
        %(metadata)s::jsonb, coalesce(%(created_at)s, now()))
"""
_ADD_ASSISTANT: Final = """
INSERT INTO assistant (assistant_id, graph_id, name, description, version, config, context, metadata,
                       created_at, updated_at)
VALUES (%(id)s, %(graph_id)s, %(name)s, %(description)s, %(version)s, %(config)s::jsonb, %(context)s::jsonb,
        %(metadata)s::jsonb, coalesce(%(created_at)s, now()), coalesce(%(updated_at)s, now()))
"""
_CRON: Final = "SELECT schedule, timezone, payload, enabled FROM cron WHERE cron_id = %(id)s FOR UPDATE"
_ADD_CRON: Final = """
INSERT INTO cron (cron_id, assistant_id, thread_id, user_id, schedule, timezone, end_time, payload, metadata,
                  on_run_completed, enabled, next_run_date)
VALUES (%(id)s, %(assistant_id)s, %(thread_id)s, %(user_id)s, %(schedule)s, %(timezone)s, %(end_time)s,
        %(payload)s::json, %(metadata)s::jsonb, %(on_run_completed)s, %(enabled)s, %(next_date)s)
"""
_ENABLE: Final = """
UPDATE cron SET enabled = true, next_run_date = %(next_date)s, updated_at = now() WHERE cron_id = %(id)s
"""


async def take_assistant(handle: Handle, old: OldAssistant, *, is_dry: bool) -> bool:
    """Bring an assistant with its versions; returns whether it was not here.

    Raises:
        NotTakenError: It is here with other versions, or its graph is not.
    """
    identity = new_id(old.assistant_id)
    versions = sorted(old.versions, key=lambda each: int(each["version"]))
    if missing := {each["graph_id"] for each in versions} - set(graphs()):
        raise NotTakenError(f"langgraph.json has no graph {', '.join(sorted(missing))}")
    wanted = [_compared(each) for each in versions]
    async with handle.transaction() as tx:
        if (here := await tx.fetch_one(_LATEST, {"id": identity})) is not None:
            found = [
                _compared(await decrypted(row, "assistant", _SECRETS))
                for row in await tx.fetch(_VERSIONS, {"id": identity})
            ]
            if (here["version"], found) != (old.version, wanted):
                raise NotTakenError("it is here with other versions, which stay")
            return False
        if not is_dry:
            await _add_assistant(tx, identity, old, versions)
        return True


async def _add_assistant(
    tx: Transaction, identity: UUID, old: OldAssistant, versions: list[dict[str, Any]]
) -> None:
    latest: dict[str, Any] | None = None
    rows = []
    for each in versions:
        row = await _stored(identity, each)
        rows.append(row)
        if row["version"] == old.version:
            latest = {**row, "created_at": old.created_at, "updated_at": old.updated_at}
    if latest is None:
        raise NotTakenError(f"its version {old.version} is not among its versions")
    await tx.execute(_ADD_ASSISTANT, latest)
    for row in rows:
        await tx.execute(_ADD_VERSION, row)


async def _stored(identity: UUID, version: dict[str, Any]) -> dict[str, Any]:
    secrets = await encrypted({name: version.get(name) or {} for name in _SECRETS}, "assistant", _SECRETS)
    return {
        "id": identity,
        "version": int(version["version"]),
        **{name: version.get(name) for name in ("graph_id", "description", "created_at")},
        "name": version.get("name") or version["graph_id"],
        **{name: json_text(secrets[name]) for name in _SECRETS},
    }


def _compared(version: dict[str, Any]) -> tuple[Any, ...]:
    fields = {name: version.get(name) for name in _FIELDS}
    fields |= {name: version.get(name) or {} for name in _SECRETS}
    fields["name"] = fields["name"] or fields["graph_id"]
    return (int(version["version"]), orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))


async def take_cron(handle: Handle, old: OldCron, *, is_dry: bool, enables: bool) -> bool:
    """Bring a cron, which fires here only if `enables`; returns whether anything was to be done.

    Raises:
        NotTakenError: It is here with another schedule or payload, or what it needs is not here.
    """
    if using_custom_encryption():
        raise NotTakenError("langgraph.json encrypts crons: create it through the API")
    row = await _cron_row(old, enables=enables)
    async with handle.transaction() as tx:
        if (here := await tx.fetch_one(_CRON, {"id": row["id"]})) is not None:
            if (here["schedule"], here["timezone"]) != (old.schedule, old.timezone) or _plain(
                here["payload"]
            ) != _plain(orjson.loads(row["payload"])):
                raise NotTakenError("it is here with another schedule or payload, which stays")
            if not (row["enabled"] and not here["enabled"]):
                return False
            if not is_dry:
                await tx.execute(_ENABLE, row)
            return True
        if is_dry:
            return True
        for what, identity in (("assistant", row["assistant_id"]), ("thread", row["thread_id"])):
            if identity is not None and not await _is_here(tx, what, identity):
                raise NotTakenError(f"its {what} {identity} is not here")
        await tx.execute(_ADD_CRON, row)
        return True


async def _cron_row(old: OldCron, *, enables: bool) -> dict[str, Any]:
    try:
        date = await asyncio.to_thread(next_date, old.schedule, old.timezone)
    except HTTPException as error:
        raise NotTakenError(error.detail) from error
    identity, assistant_id = new_id(old.cron_id), new_id(old.assistant_id)
    config = old.payload.get("config") or {}
    configurable = {**(config.get("configurable") or {}), "cron_id": str(identity)}
    config = {**config, "configurable": configurable}
    return {
        "id": identity,
        "assistant_id": assistant_id,
        "thread_id": new_id(old.thread_id) if old.thread_id else None,
        "payload": json_text({**old.payload, "assistant_id": str(assistant_id), "config": config}),
        "metadata": json_text(old.metadata),
        "enabled": enables and old.is_enabled,
        "on_run_completed": None if old.thread_id else old.on_run_completed or "delete",
        "next_date": date,
        **{name: getattr(old, name) for name in ("user_id", "schedule", "timezone", "end_time")},
    }


def _plain(payload: dict[str, Any]) -> bytes:
    return orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)


async def _is_here(tx: Transaction, what: str, identity: UUID) -> Row | None:
    statement = f"SELECT 1 AS found FROM {what} WHERE {what}_id = %(id)s"  # noqa: S608 - fixed names
    return await tx.fetch_one(statement, {"id": identity})
