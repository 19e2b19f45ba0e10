"""What only the services themselves can tell: Postgres, its schema and its connections, the clock, Valkey."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, ConnectionInfo
from psycopg.rows import DictRow, dict_row

from langgraph_runtime_holdfast import budget
from langgraph_runtime_holdfast.doctor.finding import Finding, ok, problem, warning
from langgraph_runtime_holdfast.dsn import CONNECTION_CURE, described
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.foreign import CURE, who_else
from langgraph_runtime_holdfast.migrate import OLDEST_POSTGRES
from langgraph_runtime_holdfast.pause import READ as READ_PAUSE
from langgraph_runtime_holdfast.schema_state import read_state
from langgraph_runtime_holdfast.settings import settings
from langgraph_runtime_holdfast.valkey import VALKEY_ERRORS, address, ask, is_cluster, key, stop_valkey
from langgraph_runtime_holdfast.valkey_start import check_valkey as ask_valkey

Connection = AsyncConnection[DictRow]

MOST_CLOCK_DIFFERENCE_SECONDS: Final = 2.0
SLOW_ANSWER_SECONDS: Final = 0.02
_ABOUT: Final = """
SELECT has_schema_privilege(coalesce(current_schema(), 'public'), 'CREATE') AS may_create,
       to_regclass('holdfast_migration') IS NOT NULL AS has_schema,
       to_regclass('holdfast_pause') IS NOT NULL AS has_pause,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') AS has_vectors
"""
_VALUES_INDEX: Final = """
SELECT EXISTS (
    SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)
    WHERE indrelid = to_regclass('thread') AND attname = 'values' AND indisvalid
) AS is_indexed
"""
_CREDENTIALS: Final = re.compile(r"//[^/@\s]*@")


async def check_postgres(*, wants_vectors: bool) -> AsyncIterator[Finding]:
    """Postgres and all that hangs on it; nothing is changed in it.

    Args:
        wants_vectors: Whether langgraph.json has a `store.index`.
    """
    try:
        dsn = settings().dsn
    except EngineError:
        return  # told with the environment
    try:
        connection = await AsyncConnection.connect(
            dsn, autocommit=True, row_factory=dict_row, prepare_threshold=None
        )
    except psycopg.OperationalError as error:
        cure = CONNECTION_CURE
        if "read-only" in str(error):
            cure = "Name the primary, or all hosts: postgresql://USER:PASSWORD@A,B/DATABASE."
        yield problem("postgres", f"{described(dsn)} cannot be used: {_one_line(error)}", cure)
        return
    async with connection:
        try:
            async for finding in _about(connection, dsn, wants_vectors=wants_vectors):
                yield finding
        except psycopg.Error as error:
            yield problem("postgres", f"it does not answer as it should: {_one_line(error)}", "See its log.")


async def _about(connection: Connection, dsn: str, *, wants_vectors: bool) -> AsyncIterator[Finding]:
    row = await _row(connection, _ABOUT)
    yield _check_server(connection.info, dsn)
    yield await _check_schema(connection, row)
    if row["has_pause"] and (paused := await _check_pause(connection)) is not None:
        yield paused
    if wants_vectors and not row["has_vectors"]:
        cure = "Install the extension `vector` there, or remove store.index from langgraph.json."
        yield problem("pgvector", "store.index is set, and this Postgres does not have pgvector", cure)
    if row["has_schema"]:
        yield await _check_search(connection)
    offer = await budget.ask_offer(connection)
    yield _check_budget(offer)
    yield await _check_pooler(connection, offer)
    yield await _check_clock(connection)


def _check_server(info: ConnectionInfo, dsn: str) -> Finding:
    version = info.parameter_status("server_version")
    if info.server_version < OLDEST_POSTGRES:
        cure = f"Use version {OLDEST_POSTGRES // 10_000} or newer."
        return problem("postgres", f"it is version {version}, too old", cure)
    if (encoding := info.parameter_status("server_encoding")) != "UTF8":
        cure = "Make the database anew: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
        return problem("postgres", f"the database's encoding is {encoding}, not UTF8", cure)
    return ok("postgres", f"version {version} at {described(dsn)}")


async def _check_schema(connection: Connection, row: DictRow) -> Finding:
    state = await read_state(connection)
    current, newest = state.version, state.needs
    if state.is_too_new:
        says = (
            f"version {current}, made by a newer engine for those that know {state.minimum_version}; "
            f"this one knows {newest}"
        )
        return problem("schema", says, "Use the newer engine, or restore a backup from before its migration.")
    if state.is_complete:
        newer = "" if current == newest else f", made by a newer engine and good for this one ({newest})"
        return ok("schema", f"version {current}, up to date{newer}")
    if owner := await who_else(connection):
        return problem("schema", f"the database is not this engine's: {owner}", CURE)
    if not row["may_create"]:
        cure = "GRANT CREATE ON SCHEMA public to the role in DATABASE_URI."
        return problem("schema", f"version {current} of {newest}, and this role may not create tables", cure)
    begin = f"version {current} of {newest}" if current else "empty"
    if not settings().migrates:
        cure = (
            "Run `holdfast migrate` of this version; servers refuse it until then (HOLDFAST_MIGRATE=false)."
        )
        return problem("schema", begin, cure)
    return ok("schema", f"{begin}; `holdfast migrate` or the next start brings it up to date")


async def _check_pause(connection: Connection) -> Finding | None:
    row = await (await connection.execute(READ_PAUSE)).fetchone()
    if row is None:
        return None
    since = f"{row['since']:%Y-%m-%d %H:%M:%S %Z}"
    says = f"paused since {since}: {row['reason']}. No run, cron or callback is begun"
    return warning("pause", says, "When it is to work: holdfast resume.")


def _check_budget(offer: budget.Offer) -> Finding:
    try:
        each = budget.fit(offer)
    except EngineError as error:
        return problem("connections", str(error))
    servers, workers = settings().replicas, settings().workers
    total = each.total * budget.processes()
    details = (
        f"a process   {each}",
        f"all         {servers} servers x {workers} processes x {each.total} = {total}",
        f"Postgres    {offer}",
        f"others now  {offer.others}",
    )
    if offer.is_pooled:
        return ok("connections", f"{total}, through a pooler", *details)
    says = f"{total} of {offer.available}"
    if total + offer.others > offer.available:
        cure = "Set LANGGRAPH_POSTGRES_POOL_MAX_SIZE lower, or raise max_connections: docs/connections.md."
        return warning("connections", f"{says}, and other programs hold {offer.others}", cure, *details)
    return ok("connections", says, *details)


async def _check_search(connection: Connection) -> Finding:
    row = await _row(connection, _VALUES_INDEX)
    if row["is_indexed"]:
        return ok("search", "searches of threads by values use an index, which each end of a run pays for")
    return ok("search", "searches of threads by values read each thread; docs/schema.md has an index")


async def _check_pooler(connection: Connection, offer: budget.Offer) -> Finding:
    if not offer.is_pooled:
        return ok("pooler", "none: connected to Postgres itself")
    try:
        needed = budget.of_this_process().total * budget.processes() + budget.MARGIN
    except EngineError:
        return ok("pooler", "a pooler is in between")
    says = f"one is in between; pool_mode may be transaction, max_client_conn must be at least {needed}"
    row = await _row(connection, "SHOW client_connection_check_interval")
    if row["client_connection_check_interval"] == "0":
        cure = "ALTER SYSTEM SET client_connection_check_interval = '1s' there, then SELECT pg_reload_conf()."
        return warning("pooler", f"{says}; Postgres works on for clients that are gone", cure)
    return ok("pooler", says)


async def _check_clock(connection: Connection) -> Finding:
    before = datetime.now(UTC)
    row = await _row(connection, "SELECT clock_timestamp() AS now")
    after = datetime.now(UTC)
    took = (after - before).total_seconds()
    difference = abs((row["now"] - before).total_seconds() - took / 2)
    says = f"differs by {difference:.1f} s from Postgres', which answers in {took * 1000:.0f} ms"
    if difference > MOST_CLOCK_DIFFERENCE_SECONDS + took:
        return warning("clock", says, "Run an NTP client on both; crons fire by this machine's clock.")
    if took > SLOW_ANSWER_SECONDS:
        return warning("clock", says, "Run them near each other: every step of a run waits for it.")
    return ok("clock", says)


async def check_valkey() -> list[Finding]:
    """Valkey or Redis: whether it is there, new enough, and does not throw streams away at will."""
    if not settings().redis_uri:
        return []  # told with the environment
    try:
        server = await ask_valkey()
        began = time.monotonic()
        memory = await ask(key("start", "start"), lambda client: client.info("memory"))
        took = time.monotonic() - began
    except EngineError as error:
        return [problem("valkey", _one_line(error))]
    except VALKEY_ERRORS as error:
        says = f"it is away: {_one_line(error)}. Runs go on without it; streams pause"
        return [warning("valkey", says, "See that it runs, and that the address in REDIS_URI is right.")]
    finally:
        await stop_valkey()
    return [_about_valkey(server, memory, took)]


def _about_valkey(server: dict[str, Any], memory: dict[str, Any], took: float) -> Finding:
    name = "Valkey" if server.get("valkey_version") else "Redis"
    version = str(server.get("valkey_version") or server.get("redis_version") or "0")
    if is_cluster() or address().kind != "server":
        name = f"{name} {'cluster' if is_cluster() else 'by Sentinel'}"
    policy, limit = str(memory.get("maxmemory_policy", "unknown")), int(memory.get("maxmemory") or 0)
    says = f"{name} {version}, answers in {took * 1000:.0f} ms, {policy}; it need not persist anything"
    if limit and policy.startswith("allkeys"):
        cure = "Set maxmemory-policy to noeviction or volatile-ttl; all that is kept here expires by itself."
        return warning("valkey", f"{says}; it may drop the stream of a running run", cure)
    return ok("valkey", says)


async def _row(connection: Connection, statement: str) -> DictRow:
    row = await (await connection.execute(statement)).fetchone()
    assert row is not None  # each of these has one
    return row


def _one_line(error: object) -> str:
    """An error's text as one line, without what may be a password in an address."""
    return _CREDENTIALS.sub("//…@", re.sub(r"\s+", " ", str(error)).strip()).rstrip(".")
