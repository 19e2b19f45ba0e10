"""Moving in from somewhere else, on a real Postgres and a real server; large ones are in tests/deploy."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.types import Command

from tests.contract.api import Sdk
from tests.contract.engines import Server, Services
from tests.contract.graphs import pausing
from tests.contract.moving import counted, holdfast, own_saver, project, report

pytestmark = pytest.mark.parametrize("engine", ["holdfast"], indirect=True, scope="session")


def compiled(graph: Any, saver: Any, **options: Any) -> Any:
    return graph.builder.compile(checkpointer=saver, **options)


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

        rules = [f"--graph={graph}:agent={agent}" for graph, agent in
                 (("inbox", "mail"), ("gated", "gate"), ("asks_inside", "deep"))]
        arguments = ("import", "postgres", uri, *rules, '--metadata={"team": "a"}')
        told = await report(config, server.database_uri, *arguments, "--dry-run", code=1)
        assert counted(told, "threads") == (4, 0, 1)
        assert counted(told, "items") == (1, 0, 0)
        assert await sdk.threads.count(metadata={"team": "a"}) == 0, "a dry run changes nothing"
        assert (await sdk.store.search_items((namespace,)))["items"] == []

        told = await report(config, server.database_uri, *arguments, code=1)
        assert counted(told, "threads") == (4, 0, 1)
        assert told["left"] == [
            {"kind": "threads", "id": ids["unknown"],
             "why": "its graph is not known: name it with --graph"}
        ]

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

        # Once more: nothing is doubled, and what has gone on here stays.
        again = await report(config, server.database_uri, *arguments, code=1)
        assert counted(again, "threads") == (0, 4, 1)
        assert counted(again, "items") == (0, 1, 0)
        # What went on there since is brought after it, unless it went on here as well.
        await run("inbox", ids["done"], {"text": "More"}, Command(resume=["no"]), agent="mail")
        await run("inbox", plain, Command(resume=["no"]), agent="mail")
        later = await report(config, server.database_uri, *arguments, code=1)
        assert counted(later, "threads") == (1, 2, 2)
        assert "here with other content, which stays" in next(
            each["why"] for each in later["left"] if each["id"] == plain
        )
        assert (await sdk.threads.get_state(ids["done"]))["values"]["sent"] == ["Bye", "More"]
        assert (await sdk.threads.get_state(thread["thread_id"]))["values"]["answers"] == ["yes"]


async def _first(saver: Any, thread_id: str) -> str:
    found = [each async for each in saver.alist({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})]
    return str(found[-1].checkpoint["ts"])


async def test_a_source_that_cannot_be_read_is_told_in_a_line(
    server: Server, services: Services, tmp_path: Path
) -> None:
    config = project(tmp_path)
    empty = services.make_database(f"empty_{uuid.uuid4().hex[:8]}")
    newer = services.make_database(f"newer_{uuid.uuid4().hex[:8]}")
    with psycopg.connect(newer, autocommit=True) as connection:
        for name in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
            connection.execute(f"CREATE TABLE {name} (thread_id text)")
        connection.execute("CREATE TABLE checkpoint_migrations (v int); ")
        connection.execute("INSERT INTO checkpoint_migrations VALUES (999)")
    assert server.database_uri is not None
    for target, source, why in (
        (server.database_uri, "postgresql://me:secret@127.0.0.1:9/d", "cannot be used"),
        (server.database_uri, empty, "has no tables of AsyncPostgresSaver"),
        (server.database_uri, newer, "newer langgraph-checkpoint-postgres (version 999"),
        (empty, server.database_uri, "is only migrated by `holdfast migrate`"),
    ):
        done = await holdfast(config, target, "import", "postgres", source, "--graph=inbox")
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        (line,) = done.stderr.splitlines()
        assert why in line
        assert "secret" not in line
