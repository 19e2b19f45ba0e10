"""What the engine's store does beyond the library's, on a real Postgres with pgvector."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.store.base import PutOp
from langgraph.store.memory import InMemoryStore
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.database import Handle
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.migrate import migrate
from tests.contract.engine_pool import engine_pool
from tests.contract.engine_rows import insert_run
from tests.contract.engines import Services

if TYPE_CHECKING:
    from langgraph_runtime_holdfast.store import LoopStore

DIMENSIONS = 8


async def _embed(texts: list[str]) -> list[list[float]]:
    """Vectors that depend on the text alone."""
    return [[random.Random(f"{text} {i}").random() for i in range(DIMENSIONS)] for text in texts]  # noqa: S311


INDEX: dict[str, Any] = {"dims": DIMENSIONS, "embed": _embed, "fields": ["text"]}


@pytest.fixture(scope="module")
def database_uri(services: Services) -> str:
    """A database of this module."""
    return services.make_database("store")


@pytest.fixture
async def handle(database_uri: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Handle]:
    """The engine's pool in this test's loop."""
    async with engine_pool(database_uri, monkeypatch, {"index": INDEX}) as opened:
        yield opened


@pytest.fixture
async def store(handle: Handle) -> LoopStore:
    """This loop's store."""
    from langgraph_runtime_holdfast.store import Store

    return Store()


async def test_filters_as_in_memory(store: LoopStore) -> None:
    """Every kind of filter finds what it finds in memory."""
    items: dict[str, dict[str, Any]] = {
        "a": {"n": 1, "tags": ["x", "y"], "who": {"name": "ann", "age": 3}, "none": None},
        "b": {"n": 10, "tags": ["y"], "who": {"name": "bob"}},
        "c": {"n": 2.5},
    }
    filters: list[dict[str, Any]] = [
        *({"n": 1}, {"n": 1.0}, {"n": {"$gt": 2}}, {"n": {"$gte": 1, "$lt": 10}}, {"n": {"$ne": 1}}),
        *({"who": {"name": "ann"}}, {"who": {}}, {"none": None}, {"absent": None}, {"tags": ["x", "y"]}),
        *({"x' OR 1=1 --": 1}, {"%s": "%s"}, {"n": 1, "tags": ["y"]}),
    ]
    memory = InMemoryStore()
    for key, value in items.items():
        await store.aput(("filters",), key, value, index=False)
        await memory.aput(("filters",), key, value)
    for wanted in filters:
        found = [item.key for item in await store.asearch(("filters",), filter=wanted)]
        oracle = [item.key for item in await memory.asearch(("filters",), filter=wanted)]
        assert sorted(found) == sorted(oracle), wanted


async def test_groups_and_lists(store: LoopStore) -> None:
    """The server joins the caller's filter and the auth handler's; an operator of neither is refused."""
    for key in "ab":
        await store.aput(("groups",), key, {"n": key, "tags": [key, "z"]}, index=False)

    async def keys(wanted: dict[str, Any]) -> list[str]:
        return sorted(item.key for item in await store.asearch(("groups",), filter=wanted))

    assert await keys({"$and": [{"tags": {"$contains": "z"}}, {"n": "a"}]}) == ["a"]
    assert await keys({"$or": [{"n": "a"}, {"n": {"$gt": "a"}}]}) == ["a", "b"]
    for wrong in ({"n": {"$like": "a"}}, {"$and": "x"}, {"n": {"$gt": None}}, {"a\x00": 1}):
        with pytest.raises(HTTPException) as refused:
            await keys(wrong)
        assert refused.value.status_code == 422


async def test_search_by_meaning_is_whole(store: LoopStore) -> None:
    """A long page comes whole, and an item is found by what it says now."""
    await store.abatch([PutOp(("many",), str(i), {"text": f"text {i}"}) for i in range(2000)])
    assert len(await store.asearch(("many",), query="a", limit=100)) == 100
    await store.aput(("said",), "k", {"text": "first"})
    await store.aput(("said",), "k", {"text": "second"}, index=False)
    assert await store.asearch(("said",), query="first") == []


async def test_bad_operation_harms_no_other(store: LoopStore) -> None:
    """Of operations at one moment, only the wrong ones fail, and say why."""
    wrong = [
        store.aput(("bad",), "a\x00", {}),
        store.aput(("bad",), "x" * 5000, {}),
        store.aput(("bad",), "k", {"n": 2**80}),
        store.aput(("bad",), "k", {}, ttl=1e300),
        store.asearch(("bad",), limit=-1),
        store.asearch(("bad",), offset=10**30),
    ]
    good = store.aput(("bad",), "good", {"a": 1})
    *refused, done = await asyncio.gather(*wrong, good, return_exceptions=True)
    assert [getattr(each, "status_code", each) for each in refused] == [422] * len(wrong)
    assert done is None
    assert [item.key for item in await store.asearch(("bad",))] == ["good"]


async def test_part_of_a_minute_expires(store: LoopStore, handle: Handle) -> None:
    """A TTL need not be whole minutes, is renewed by a read, and ends the item before the sweep takes it."""
    await store.aput(("brief",), "k", {"a": 1}, index=False, ttl=0.5)
    left = "SELECT extract(epoch FROM expires_at - now())::float AS left FROM store WHERE prefix = 'brief'"
    await handle.execute("UPDATE store SET expires_at = now() + interval '5 s' WHERE prefix = 'brief'")
    assert await store.aget(("brief",), "k") is not None
    row = await handle.fetch_one(left)
    assert row is not None
    assert 20 < row["left"] <= 30
    await handle.execute("UPDATE store SET expires_at = now() - interval '1 s' WHERE prefix = 'brief'")
    assert await store.aget(("brief",), "k") is None
    assert await store.asearch(("brief",)) == []
    assert await store.sweep_ttl() == 1


async def test_a_run_that_lost_its_lease_changes_no_memory(handle: Handle) -> None:
    """Neither by a put, a delete or a read that renews, from the loop or another thread."""
    from langgraph_api.asyncio import ValueEvent

    from langgraph_runtime_holdfast.ops.lease import Lease, LeaseLostError
    from langgraph_runtime_holdfast.ops.run_queue import claim, put_back
    from langgraph_runtime_holdfast.store import Store

    async def claimed() -> Lease:
        ((_, lease, _),) = await claim(1)
        return lease

    async def kept() -> Any:
        return await handle.fetch(
            "SELECT key, value, expires_at FROM store WHERE prefix = 'held' ORDER BY key"
        )

    await insert_run(handle, uuid.uuid4(), "pending")
    old = await claimed()
    with old.entered(ValueEvent()):
        store = Store()
    await store.aput(("held",), "a", {"text": "mine"}, ttl=60)
    await asyncio.to_thread(store.put, ("held",), "b", {"text": "mine"}, ttl=60)
    before = await kept()
    assert [row["key"] for row in before] == ["a", "b"]

    old.is_handed_back = True
    assert await put_back(handle, old, None)
    new = await claimed()
    calls = [
        store.aput(("held",), "a", {"text": "late"}),
        store.adelete(("held",), "b"),
        store.aget(("held",), "a"),
        store.asearch(("held",), query="mine"),
        asyncio.to_thread(store.put, ("held",), "c", {"text": "late"}),
    ]
    refused = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in refused] == [LeaseLostError] * len(calls)
    assert await kept() == before
    assert old.is_lost

    with new.entered(ValueEvent()):
        store = Store()
    await store.aput(("held",), "a", {"text": "new"})
    # What it has begun and not waited for may come after its end.
    new.has_ended = True
    assert await put_back(handle, new, None)
    await store.adelete(("held",), "b")
    assert [row["value"]["text"] for row in await kept()] == ["new"]


async def test_a_run_that_lost_its_lease_harms_no_other(handle: Handle) -> None:
    """Whose connection has done the same before: what fails in the middle leaves nothing behind on it."""
    from langgraph_api.asyncio import ValueEvent

    from langgraph_runtime_holdfast.ops.lease import LeaseLostError
    from langgraph_runtime_holdfast.ops.run_queue import claim, put_back
    from langgraph_runtime_holdfast.store import Store

    async def store_of_claimed() -> LoopStore:
        ((_, lease, _),) = await claim(1)
        leases.append(lease)
        with lease.entered(ValueEvent()):
            return Store()

    leases: list[Any] = []
    await insert_run(handle, uuid.uuid4(), "pending")
    lost = await store_of_claimed()
    leases[0].is_handed_back = True
    assert await put_back(handle, leases[0], None)
    held = await store_of_claimed()
    # They share connections, on which a statement is prepared when it comes for the sixth time: two of three
    # times it is the other one, so that of one connection or two the sixth is one that fails.
    for number in range(10):
        for _ in range(2):
            await held.aput(("shared",), "mine", {"text": str(number)}, index=False)
        with pytest.raises(LeaseLostError):
            await lost.aput(("shared",), "late", {"text": str(number)}, index=False)
    assert await held.aget(("shared",), "late") is None


async def test_other_dimensions_stop_the_start(handle: Handle, database_uri: str) -> None:
    """Changed dimensions are told at the start, not by the first item."""
    with pytest.raises(EngineError, match="3, and the database holds vectors of 8"):
        await migrate(database_uri, timeout_seconds=30, store_index={**INDEX, "dims": 3})
