"""With `encryption` in langgraph.json nothing that users say is kept in plain text, but for a short list."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient
from psycopg import sql
from redis.asyncio import Redis

from tests.contract.api import Sdk, until
from tests.contract.callback_rig import Receiver
from tests.contract.conftest import plain_http
from tests.contract.engines import Server, Services, running_holdfast_server

pytestmark = pytest.mark.parametrize("engine", ["holdfast"], indirect=True)

# The stock server leaves these plain too.
STAYS_PLAIN = {
    "assistant.name": "lists are sorted by it",
    "assistant.description": "no object, which is what the handlers take",
    "assistant_version.name": "as the assistant's",
    "assistant_version.description": "as the assistant's",
    "store.prefix": "what an item is found by",
    "store.key": "what an item is found by",
    "run.kwargs": "the webhook's URL, and how the run is streamed",
    "outbox.url": "the webhook's URL",
}


@pytest.fixture(scope="module")
def confiding(
    encrypted: Server, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, str]]:
    """Two servers on one database, with encryption; their addresses and its URI."""
    home, database_uri = tmp_path_factory.mktemp("confiding"), encrypted.database_uri
    assert database_uri is not None
    with running_holdfast_server(home, services, database_uri, "langgraph.encrypted.json") as second:
        yield encrypted.url, second, database_uri


async def test_no_secret_is_kept_in_plain_text(
    confiding: tuple[str, str, str], services: Services, receiver: Receiver
) -> None:
    secret, named = f"secret{uuid.uuid4().hex}", f"named{uuid.uuid4().hex}"
    async with (
        _overheard(services.valkey_uri) as overheard,
        plain_http(confiding[0]) as first,
        plain_http(confiding[1]) as second,
    ):
        await _confide(LangGraphClient(first), LangGraphClient(second), secret, named, receiver)
        await _until_kept(confiding[2])
    assert _columns_with(confiding[2], secret) == set()
    assert _columns_with(confiding[2], named) <= STAYS_PLAIN.keys()
    assert [told for told in overheard if secret in told] == []
    # It has heard the events, sealed.
    assert any("XADD" in told and "sealed" in told for told in overheard)


async def _confide(here: Sdk, there: Sdk, secret: str, named: str, receiver: Receiver) -> None:
    """Tell a secret in every way the API has, and see that it is understood."""
    assistant = await here.assistants.create(
        "confiding",
        context={"tone": secret},
        metadata={"note": secret},
        name=named,
        description=named,
    )
    made = await here.threads.create(metadata={"note": secret})
    thread_id = made["thread_id"]
    assert (await there.threads.get(thread_id))["metadata"]["note"] == secret
    # It says what it was sent, and takes nothing.
    receiver.answers[f"told-{named}"] = [(500, {"x-say": secret})] * 99
    run = await here.runs.create(
        thread_id,
        "confiding",
        input={"secret": secret, "does": "asks"},
        config={"configurable": {"about": secret}, "metadata": {"note": secret}, "tags": [secret]},
        metadata={"note": secret},
        webhook=receiver.url(f"told-{named}"),
        stream_mode=["values", "updates", "custom", "messages"],
        stream_resumable=True,
    )
    await there.runs.join(thread_id, run["run_id"])
    assert (await there.threads.get(thread_id))["config"]["tags"] == [secret]
    ((pause,),) = (await there.threads.get(thread_id))["interrupts"].values()
    assert pause["value"] == {"about": secret}
    for replica in (here, there):
        parts = replica.runs.join_stream(thread_id, run["run_id"], last_event_id="-1")
        assert {"told": secret} in [part.data async for part in parts if part.event == "custom"]
    resumed = await here.runs.wait(thread_id, "confiding", command={"resume": secret})
    assert resumed["heard"] == [secret] * 3
    await here.threads.update_state(thread_id, {"heard": [secret]}, as_node="confide")
    assert (await there.threads.get_state(thread_id))["values"]["heard"] == [secret] * 4

    retried = await here.runs.wait(
        None, assistant["assistant_id"], input={"secret": secret, "does": "retries"}
    )
    assert retried["heard"][0] == secret
    kept = await here.runs.create(thread_id, "confiding", input={"secret": secret, "does": "retries"})
    await there.runs.join(thread_id, kept["run_id"])
    failed = await here.runs.create(thread_id, "confiding", input={"secret": secret, "does": "fails"})
    await there.runs.join(thread_id, failed["run_id"])
    assert (await there.threads.get(thread_id))["error"]["message"] == secret
    await here.threads.copy(thread_id)

    results = await asyncio.gather(
        *(
            replica.runs.wait(None, "confiding", input={"secret": secret})
            for replica in (here, there)
            for _ in range(8)
        )
    )
    assert [result["heard"][0] for result in results] == [secret] * 16
    await here.store.put_item([named], named, {"note": secret})
    assert (await there.store.get_item([named], named))["value"] == {"note": secret}
    (page,) = (await there.store.search_items(["diary"]))["items"]
    assert page["value"]["note"] == secret
    await here.crons.create(
        "confiding",
        schedule="0 0 1 1 *",
        input={"secret": secret},
        metadata={"note": secret},
        config={"configurable": {"about": secret}, "tags": [secret]},
    )


async def _until_kept(database_uri: str) -> None:
    """Wait until a run's first error, a stateless result and a callback's failure are in the database."""

    async def all_kept() -> bool:
        async with await psycopg.AsyncConnection.connect(database_uri) as connection:
            cursor = await connection.execute(
                "SELECT (SELECT count(*) FROM run WHERE first_error IS NOT NULL),"
                " (SELECT count(*) FROM run_result),"
                " (SELECT count(*) FROM outbox WHERE last_error IS NOT NULL)"
            )
            return all(await cursor.fetchone() or ())

    await until(all_kept, "there is something in each table")


@asynccontextmanager
async def _overheard(valkey_uri: str) -> AsyncIterator[list[str]]:
    """All that Valkey is told meanwhile, command by command."""
    client = Redis.from_url(valkey_uri)
    told: list[str] = []

    async def listen(monitor: Any) -> None:
        async for command in monitor.listen():
            told.append(str(command["command"]))

    async with client.monitor() as monitor:
        listening = asyncio.create_task(listen(monitor))
        try:
            yield told
            assert not listening.done()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    await client.aclose()


def _columns_with(database_uri: str, text: str) -> set[str]:
    """The columns, of all tables and types, in which a text stands somewhere."""
    found = set()
    with psycopg.connect(database_uri, autocommit=True) as connection:
        columns = connection.execute(
            "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns"
            " JOIN information_schema.tables USING (table_schema, table_name)"
            " WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert columns
        for schema, table, column, kind in columns:
            name = sql.Identifier(column)
            # Bytes as text would be in hexadecimal.
            stands = "position(%s::bytea IN {})" if kind == "bytea" else "position(%s IN {}::text)"
            condition = sql.SQL(stands).format(name)
            statement = sql.SQL("SELECT FROM {} WHERE {} > 0 LIMIT 1").format(
                sql.Identifier(schema, table), condition
            )
            value = text.encode() if kind == "bytea" else text
            if connection.execute(statement, [value]).fetchone() is not None:
                found.add(f"{table}.{column}")
    return found
