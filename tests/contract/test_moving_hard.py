"""What an import must not take as said: cut files, pages that overlap, one bad thing among good ones."""

from __future__ import annotations

import uuid
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.migrate import migrate
from langgraph_runtime_holdfast.moving.asking import paged
from langgraph_runtime_holdfast.moving.barriers import barriers, waiting
from langgraph_runtime_holdfast.moving.folder_source import FolderSource
from langgraph_runtime_holdfast.moving.server_source import ServerSource
from tests.contract.engines import Services
from tests.contract.graphs import pausing
from tests.contract.moving import counted, holdfast, own_saver, project, report


class State(TypedDict, total=False):
    ran: Annotated[list[str], add]


async def test_one_bad_thing_stops_no_import_and_what_was_set_here_stays(
    services: Services, tmp_path: Path
) -> None:
    config = project(tmp_path)
    target = services.make_database(f"into_{uuid.uuid4().hex[:8]}")
    await migrate(target, timeout_seconds=30)
    mine, titled = str(uuid.uuid4()), str(uuid.uuid4())
    async with own_saver(services) as (uri, saver, store):
        graph: Any = pausing.inbox.builder.compile(checkpointer=saver)
        for thread_id in ("", "x" * 3000, mine, titled):
            await graph.ainvoke({"text": "a"}, _place(thread_id))
        await store.aput(("long",), "n" * 2500, {"v": 1})
        await store.aput(("z",), "k", {"v": 1})
        arguments = ("import", "postgres", uri, "--graph=inbox", '--metadata={"owner": "alice"}')
        told = await report(config, target, *arguments, code=1)
        assert counted(told, "threads") == (4, 0, 0), "an empty id is one, too"
        assert counted(told, "items") == (1, 0, 1)
        assert "2000 bytes" in told["left"][0]["why"]

        with psycopg.connect(target, autocommit=True) as connection:
            connection.execute(
                """UPDATE thread SET metadata = metadata || '{"owner": "bob"}' WHERE thread_id = %s""", [mine]
            )
        for thread_id in (mine, titled):
            await graph.ainvoke(Command(resume=["no"]), _place(thread_id))
        again = (*arguments[:-1], '--metadata={"owner": "carol"}')
        assert counted(await report(config, target, *again, code=1), "threads") == (2, 2, 0)
        with psycopg.connect(target) as connection:
            owners: dict[str, str] = dict(
                connection.execute("SELECT thread_id::text, metadata ->> 'owner' FROM thread").fetchall()
            )
        assert (owners[mine], owners[titled]) == ("bob", "carol"), "changed here, and not"

    # Once more, by way of a folder, of which half the threads were lost on the way.
    done = await holdfast(config, target, "export", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out" / "threads.jsonl").read_bytes().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines[:-1]) if line.startswith(b'{"end"'))
    (tmp_path / "out" / "threads.jsonl").write_bytes(b"".join(lines[: last + 1]))
    done = await holdfast(config, target, "import", "folder", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "threads.jsonl has 3 threads, and 4 were exported" in done.stderr


def _place(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


THREAD = '{"thread": {"thread_id": "t", "fingerprint": "f"}}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", "[]"),
        ("manifest.json", '{"format": 1}'),
        ("threads.jsonl", '{"thread": 5}\n'),
        ("threads.jsonl", '{"thread": {"thread_id": "x"}}\n'),
        ("threads.jsonl", ""),
        ("threads.jsonl", THREAD + '["checkpoints", "a"]\n'),
        ("threads.jsonl", THREAD + '["checkpoint_blobs", 1, 1, 1, 1, {"bytes": "*"}]\n'),
        ("threads.jsonl", THREAD),
        ("items.jsonl", '{"x": 1}\n'),
        ("items.jsonl", "5\n"),
        ("assistants.jsonl", "{}\n"),
        ("crons.jsonl", '{"cron_id": 1\n'),
    ],
)  # fmt: skip
async def test_a_damaged_or_foreign_folder_is_told_in_a_line(
    tmp_path: Path, name: str, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"format": 1, "counts": {"threads": 1}}')
    for kind in ("threads", "items", "assistants", "crons"):
        (folder / f"{kind}.jsonl").write_text("")
    (folder / name).write_text(content)

    async def written(tx: Any, table: str, thread_id: Any, rows: Any) -> None:
        assert [row async for row in rows]

    monkeypatch.setattr("langgraph_runtime_holdfast.moving.rows.write_rows", written)
    with pytest.raises(EngineError, match=r"damaged|not an export"):
        await _all_of(folder)


async def _all_of(folder: Path) -> None:
    nothing: Any = None
    async with FolderSource.opened(folder) as source:
        for each in (source.assistants, source.crons, source.items):
            async for _ in each():
                pass
        async for thread in source.threads():
            await source.write(thread, nothing, nothing, "")


class Shuffled:
    """A list in the order of a moment, in which those of the same moment change places each time."""

    def __init__(self, moments: list[int], most: int = 10_000) -> None:
        """At most so many at once."""
        self.rows = [{"key": number, "at": moment} for number, moment in enumerate(moments)]
        self.most = most

    async def ask(self, limit: int, offset: int) -> list[dict[str, Any]]:
        turned = sorted(self.rows, key=lambda row: (row["at"], (row["key"] * 7919 + limit + offset) % 101))
        return turned[offset : offset + min(limit, self.most)]


@pytest.mark.parametrize(
    "moments", [[], [1], [1] * 4, [1] * 300, [*range(50)], [*[1] * 30, *range(2, 9), *[9] * 41]]
)
async def test_what_has_the_same_moment_is_listed_once_each(moments: list[int]) -> None:
    found = [row["key"] async for row in paged(Shuffled(moments).ask, 4, "at")]
    assert sorted(found) == list(range(len(moments)))


async def test_a_server_that_gives_less_than_it_has_is_told() -> None:
    with pytest.raises(EngineError, match="no more than 10 at once"):
        [row async for row in paged(Shuffled([1] * 30, most=10).ask, 4, "at")]


def _nodes(waits: bool) -> Any:
    async def node(state: State) -> State:
        return {"ran": ["it"]}

    async def ask(state: State) -> State:
        return {"ran": [interrupt("?")]}

    made = StateGraph(State)
    names = ("one", "two", "end")
    for name in names:
        made.add_node(name, node, defer=waits and name == "end")
    made.add_node("ask", ask)
    made.add_edge(START, "one").add_edge(START, "two").add_edge("two", "ask").add_edge(["one", "ask"], "end")
    return made.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize("waits", [False, True])
async def test_a_node_that_waits_for_several_knows_which_have_ended(waits: bool) -> None:
    graph = _nodes(waits)
    place = _place("t")
    await graph.ainvoke({}, place)
    steps = [[task.name for task in state.tasks] async for state in graph.aget_state_history(place)]
    held = (await graph.checkpointer.aget_tuple(place)).checkpoint["channel_values"]
    ((name, made),) = waiting(graph, list(reversed(steps[1:]))).items()
    assert name in barriers(graph)
    assert (list(made) if waits else made) == held[name]
    await graph.ainvoke(Command(resume="yes"), place)
    steps = [[task.name for task in state.tasks] async for state in graph.aget_state_history(place)]
    assert waiting(graph, list(reversed(steps[1:]))) == {}, "it has run"


async def test_a_password_in_the_address_is_not_told() -> None:
    with pytest.raises(EngineError) as refused:
        async with ServerSource.opened("http://me:s3cret@127.0.0.1:9", {}):
            pass
    assert "s3cret" not in str(refused.value)
