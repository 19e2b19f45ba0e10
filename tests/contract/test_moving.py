"""Moving in from somewhere else, on a real Postgres and a real server; large ones are in tests/deploy."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.types import Command
from langgraph_sdk.client import LangGraphClient

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.migrate import migrate
from langgraph_runtime_holdfast.moving.rebuild import same
from langgraph_runtime_holdfast.moving.report import KINDS
from langgraph_runtime_holdfast.moving.sql_source import SqlSource
from tests.contract.api import Sdk, until_status
from tests.contract.conftest import plain_http
from tests.contract.engines import Server, Services, running_dev_server
from tests.contract.graphs import pausing
from tests.contract.moving import counted, holdfast, own_saver, project, report

ON_OURS = pytest.mark.parametrize("engine", ["holdfast"], indirect=True, scope="session")


def compiled(graph: Any, saver: Any, **options: Any) -> Any:
    return graph.builder.compile(checkpointer=saver, **options)


@ON_OURS
async def test_what_waits_in_a_saver_of_ones_own_goes_on_here(
    server: Server, services: Services, sdk: Sdk, tmp_path: Path
) -> None:
    """A support agent of its own, with interrupts, a pause before a node, and one within a subgraph."""
    assert server.database_uri is not None
    config = project(tmp_path)
    plain = f"conversation/{uuid.uuid4().hex}"
    ids = {name: str(uuid.uuid4()) for name in ("gated", "asks_inside", "done", "unknown")}
    namespace = uuid.uuid4().hex
    async with own_saver(services) as (uri, saver, store):

        async def run(name: str, thread_id: str, *inputs: Any, **metadata: str) -> Any:
            before = {"interrupt_before": ["send"]} if name == "gated" else {}
            graph = compiled(getattr(pausing, name), saver, **before)
            settings: Any = {"configurable": {"thread_id": thread_id}, "metadata": metadata}
            for each in inputs:
                await graph.ainvoke(each, settings)
            return await graph.aget_state({"configurable": {"thread_id": thread_id}})

        waiting = await run("inbox", plain, {"text": "Hello"}, agent="mail")
        await run("gated", ids["gated"], {"text": " Hi "}, agent="gate")
        await run("asks_inside", ids["asks_inside"], {"text": "Deep"}, agent="deep")
        done = await run("inbox", ids["done"], {"text": "Bye"}, Command(resume=["yes"]), agent="mail")
        await run("inbox", ids["unknown"], {"text": "?"}, agent="nobody's")
        await store.aput((namespace, "a"), "k", {"likes": "tea"})

        rules = [
            f"--graph={graph}:agent={agent}"
            for graph, agent in (("inbox", "mail"), ("gated", "gate"), ("asks_inside", "deep"))
        ]
        arguments = ("import", "postgres", uri, *rules, '--metadata={"team": "a"}')
        told = await report(config, server.database_uri, *arguments, "--dry-run", code=1)
        assert counted(told, "threads") == (4, 0, 1)
        assert counted(told, "items") == (1, 0, 0)
        assert await sdk.threads.count(metadata={"team": "a"}) == 0, "a dry run changes nothing"
        assert (await sdk.store.search_items((namespace,)))["items"] == []

        told = await report(config, server.database_uri, *arguments, code=1)
        assert counted(told, "threads") == (4, 0, 1)
        assert told["left"] == [
            {"kind": "threads", "id": ids["unknown"], "why": "its graph is not known: name it with --graph"}
        ]

        (note,) = told["notes"]
        assert note.startswith("1 threads stand before a node and ask nobody")

        # What waited for a human waits here, with the same question, and goes on with the answer.
        (thread,) = await sdk.threads.search(metadata={"imported": {"thread_id": plain}})
        assert thread["status"] == "interrupted"
        (task,) = waiting.tasks
        assert {key: [each["id"] for each in asked] for key, asked in thread["interrupts"].items()} == {
            task.id: [task.interrupts[0].id]
        }
        assert thread["created_at"] == (await _first(saver, plain)), "as old as it is"
        for thread_id, graph, resume in (
            (thread["thread_id"], "inbox", {"command": {"resume": ["yes"]}}),
            (ids["asks_inside"], "asks_inside", {"command": {"resume": ["yes"]}}),
            (ids["gated"], "gated", {"input": None}),
        ):
            assert (await sdk.threads.get(thread_id))["status"] == "interrupted"
            ended: Any = await sdk.runs.wait(thread_id, graph, **resume)
            assert ended["sent"] == [ended["text"]], graph
            assert ended["answers"] == ([] if graph == "gated" else ["yes"])
        state = await sdk.threads.get_state(ids["done"])
        assert (state["values"], state["next"]) == (done.values, [])
        assert len(await sdk.threads.get_history(ids["done"])) == len(
            [each async for each in saver.alist({"configurable": {"thread_id": ids["done"]}})]
        )
        item = await sdk.store.get_item((namespace, "a"), "k")
        assert item["value"] == {"likes": "tea"}

        # Once more: nothing is doubled, and what has gone on here stays. What went on there since is brought
        # after it, unless it went on here as well.
        await run("inbox", ids["done"], {"text": "More"}, Command(resume=["no"]), agent="mail")
        await run("inbox", plain, Command(resume=["no"]), agent="mail")
        later = await report(config, server.database_uri, *arguments, code=1)
        assert counted(later, "threads") == (1, 2, 2)
        assert counted(later, "items") == (0, 1, 0)
        assert "here with other content, which stays" in next(
            each["why"] for each in later["left"] if each["id"] == plain
        )
        assert (await sdk.threads.get_state(ids["done"]))["values"]["sent"] == ["Bye", "More"]
        assert (await sdk.threads.get_state(thread["thread_id"]))["values"]["answers"] == ["yes"]


async def _first(saver: Any, thread_id: str) -> str:
    found = [
        each async for each in saver.alist({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})
    ]
    return str(found[-1].checkpoint["ts"])


async def test_a_source_that_cannot_be_read_is_told_in_a_line(services: Services, tmp_path: Path) -> None:
    config = project(tmp_path)
    empty = services.make_database(f"empty_{uuid.uuid4().hex[:8]}")
    newer = services.make_database(f"newer_{uuid.uuid4().hex[:8]}")
    with psycopg.connect(newer, autocommit=True) as connection:
        for name in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
            connection.execute(f"CREATE TABLE {name} (thread_id text)")
        connection.execute("CREATE TABLE checkpoint_migrations (v int); ")
        connection.execute("INSERT INTO checkpoint_migrations VALUES (999)")
    for address, why in (
        ("postgresql://me:secret@127.0.0.1:9/d", "cannot be used"),
        (empty, "has no tables of AsyncPostgresSaver"),
        (newer, "newer langgraph-checkpoint-postgres (version 999"),
    ):
        with pytest.raises(EngineError) as refused:
            async with SqlSource.opened(address):
                pass
        assert why in str(refused.value)
        assert "secret" not in str(refused.value)
    async with own_saver(services) as (uri, saver, _):
        await compiled(pausing.inbox, saver).ainvoke({"text": "a"}, place_of("7"))
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute("UPDATE checkpoint_writes SET type = 'msgpack+aes'")
        async with SqlSource.opened(uri) as opened:
            (thread,) = [each async for each in opened.threads()]
        assert "encrypted (msgpack+aes)" in thread.fault
        done = await holdfast(config, empty, "import", "postgres", uri, "--graph=inbox")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert "is only migrated by `holdfast migrate`" in line


@ON_OURS
async def test_what_another_server_has_is_here_with_its_history_and_goes_on(
    server: Server, sdk: Sdk, tmp_path: Path
) -> None:
    """The stock server is the source; only its API is used."""
    (tmp_path / "here").mkdir()
    config = project(tmp_path / "here")
    with ExitStack() as stack:
        url = await asyncio.to_thread(stack.enter_context, running_dev_server(tmp_path / "dev"))
        async with plain_http(url) as http:
            there: Any = LangGraphClient(http)
            ids = await _fill(there)
            arguments = ("import", "server", url)
            assert server.database_uri is not None
            told = await report(config, server.database_uri, *arguments, code=1)
            assert counted(told, "threads") == (len(ids) - 3, 0, 1), told
            assert [each["id"] for each in told["left"]] == [ids["slow"]]
            assert "a run works on it there" in told["left"][0]["why"]
            assert counted(told, "assistants") == (1, 0, 0)
            assert counted(told, "crons") == (1, 0, 0)
            assert counted(told, "items") == (1, 0, 0)
            assert "1 crons are disabled here" in told["notes"][1]

            for name in ("talker", "inbox", "gated", "asks_inside", "two_at_once", "failing", "empty"):
                old, new = await there.threads.get(ids[name]), await sdk.threads.get(ids[name])
                for field in ("status", "interrupts", "created_at", "updated_at"):
                    assert (old.get(field) or {}) == new[field], (name, field)
                states = [await each.threads.get_history(ids[name], limit=100) for each in (there, sdk)]
                for fields in ("checkpoint_id", "created_at", "next"):
                    shown = [[each[fields] for each in some] for some in states]
                    assert shown[0] == shown[1], (name, fields)
                # A message leaves out what is empty, or does not.
                assert same(*([each["values"] for each in some] for some in states)), name

            # What waited goes on; what had ended can be gone back to.
            for name, resume in (
                ("inbox", {"command": {"resume": ["yes"]}}),
                ("asks_inside", {"command": {"resume": ["yes"]}}),
                ("gated", {"input": None}),
            ):
                ended = await sdk.runs.wait(ids[name], name, **resume)
                assert ended["sent"] == [ended["text"]], name
                assert await there.runs.wait(ids[name], name, **resume) == ended
            both = {
                asked["id"]: ["yes"]
                for some in (await sdk.threads.get(ids["two_at_once"]))["interrupts"].values()
                for asked in some
            }
            ended = await sdk.runs.wait(ids["two_at_once"], "two_at_once", command={"resume": both})
            assert (ended["answers"], ended["sent"]) == (["yes", "yes"], ["both"])
            said = await sdk.runs.wait(ids["talker"], "talker", input={"messages": "again"})
            assert [each["type"] for each in said["messages"]] == ["human", "ai"] * 2
            assistant = await sdk.assistants.get(ids["assistant"])
            assert (assistant["version"], assistant["name"]) == (2, "second")
            versions = await sdk.assistants.get_versions(ids["assistant"])
            assert [each["config"].get("tags") for each in versions] == [["b"], ["a"]]
            (cron,) = await sdk.crons.search(assistant_id=ids["assistant"])
            assert (cron["enabled"], cron["schedule"]) == (False, "0 0 1 1 *")

            # Again, with the source about to stop: nothing is doubled, and crons are this server's now.
            await there.runs.cancel(ids["slow"], ids["run"], wait=True)
            told = await report(config, server.database_uri, *arguments, "--enable-crons", code=1)
            assert counted(told, "threads")[0] == 1, "the one whose run has ended"
            assert {each["id"] for each in told["left"]} == {
                ids[n] for n in ("inbox", "gated", "asks_inside")
            }
            (cron,) = await sdk.crons.search(assistant_id=ids["assistant"])
            assert cron["enabled"]
            assert datetime.fromisoformat(cron["next_run_date"]) > datetime.now(UTC)
            await sdk.crons.delete(cron["cron_id"])


async def test_what_is_exported_is_taken_back_and_the_library_reads_it_too(
    services: Services, tmp_path: Path
) -> None:
    """Out, and in again elsewhere; and AsyncPostgresSaver works on the database itself."""
    config = project(tmp_path)
    elsewhere = services.make_database(f"elsewhere_{uuid.uuid4().hex[:8]}")
    await migrate(elsewhere, timeout_seconds=30)
    waiting, done = str(uuid.uuid4()), str(uuid.uuid4())
    async with own_saver(services) as (uri, saver, store):
        graph = compiled(pausing.inbox, saver)
        for thread_id, text in ((waiting, "a\u2028b"), (done, "c")):
            await graph.ainvoke({"text": text}, {"configurable": {"thread_id": thread_id}})
        await graph.ainvoke(Command(resume=["no"]), {"configurable": {"thread_id": done}})
        await store.aput(("a", "b"), "k", {"x": [1, None, "ü"]}, ttl=60)
        # Where it is, too: its own database becomes the server's.
        await graph.ainvoke({"text": "d"}, {"configurable": {"thread_id": "customer 7"}})
        await migrate(here := uri, timeout_seconds=30)
        told = await report(config, here, "import", "postgres", here, "--graph=inbox")
        assert counted(told, "threads") == (3, 0, 0)
        assert counted(told, "items") == (0, 1, 0)
        with psycopg.connect(here, autocommit=True) as connection:
            connection.execute(OTHERS)

        told = await report(config, here, "export", str(tmp_path / "out"))
        assert [told[kind]["taken"] for kind in KINDS] == [4, 1, 1, 1]
        told = await report(config, elsewhere, "import", "folder", str(tmp_path / "out"))
        assert [told[kind]["taken"] for kind in KINDS] == [4, 1, 1, 1]
        for statement in (FIRST_OF_ALL, REST):
            both = []
            for each in (here, elsewhere):
                with psycopg.connect(each) as connection:
                    both.append(connection.execute(statement).fetchall())
            assert both[0] == both[1]
            assert both[0]

        async with AsyncPostgresSaver.from_conn_string(elsewhere) as back:
            for thread_id in (waiting, done):
                place: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
                assert [(each.checkpoint, each.pending_writes) async for each in back.alist(place)] == [
                    (each.checkpoint, each.pending_writes) async for each in saver.alist(place)
                ]
            ended = await compiled(pausing.inbox, back).ainvoke(Command(resume=["yes"]), place_of(waiting))
            assert ended["sent"] == ["a\u2028b"]


OTHERS: LiteralString = """
INSERT INTO thread (thread_id, metadata) VALUES ('00000000-0000-0000-0000-000000000001', '{"empty": true}');
INSERT INTO assistant (assistant_id, graph_id, name, version)
VALUES ('00000000-0000-0000-0000-00000000000a', 'echo', 'two', 2);
INSERT INTO assistant_version (assistant_id, version, graph_id, name, config) VALUES
('00000000-0000-0000-0000-00000000000a', 1, 'echo', 'one', '{"tags": ["a"]}'),
('00000000-0000-0000-0000-00000000000a', 2, 'echo', 'two', '{}');
INSERT INTO cron (cron_id, assistant_id, thread_id, schedule, payload, enabled, next_run_date, end_time)
VALUES ('00000000-0000-0000-0000-00000000000c', '00000000-0000-0000-0000-00000000000a',
        '00000000-0000-0000-0000-000000000001', '0 0 1 1 *',
        '{"assistant_id": "00000000-0000-0000-0000-00000000000a",
          "config": {"configurable": {"cron_id": "00000000-0000-0000-0000-00000000000c"}}}',
        false, now() + interval '1 year', now() + interval '2 years');
"""
FIRST_OF_ALL: LiteralString = """
SELECT thread_id, status, metadata - 'imported', "values", interrupts, error, created_at, updated_at,
       (SELECT count(*) FROM checkpoints WHERE checkpoints.thread_id = thread.thread_id::text)
FROM thread ORDER BY 1
"""
REST: LiteralString = """
SELECT to_jsonb(kept) - 'created_at' - 'updated_at' FROM assistant_version AS kept
UNION ALL SELECT to_jsonb(cron) - 'created_at' - 'updated_at' - 'next_run_date' FROM cron
UNION ALL SELECT to_jsonb(store) FROM store
"""


def place_of(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


async def _fill(there: Any) -> dict[str, str]:
    """One thread of each kind, and the rest; returns the ids."""
    ids: dict[str, str] = {}

    async def ended(graph: str, values: dict[str, Any]) -> None:
        ids[graph] = (await there.threads.create(metadata={"who": "ann"}))["thread_id"]
        await there.runs.wait(ids[graph], graph, input=values, raise_error=False)

    await ended("talker", {"messages": "hello there"})
    await ended("inbox", {"text": "Hello"})
    await ended("gated", {"text": " Hi "})
    await ended("asks_inside", {"text": "Deep"})
    await ended("two_at_once", {"text": "both"})
    await ended("failing", {"reason": "no ink"})
    ids["empty"] = (await there.threads.create())["thread_id"]
    ids["slow"] = (await there.threads.create())["thread_id"]
    ids["run"] = (await there.runs.create(ids["slow"], "slow", input={"step_seconds": 60.0}))["run_id"]
    await until_status(there, ids["slow"], ids["run"], "running")
    made = await there.assistants.create("echo", name="first", config={"tags": ["a"]})
    await there.assistants.update(made["assistant_id"], name="second", config={"tags": ["b"]})
    ids["assistant"] = made["assistant_id"]
    await there.crons.create(made["assistant_id"], schedule="0 0 1 1 *", input={"text": "tick"})
    await there.store.put_item(("moving", uuid.uuid4().hex), "k", {"a": 1})
    return ids
