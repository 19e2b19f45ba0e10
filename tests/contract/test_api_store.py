"""The store: items, namespaces, filters; and, where configured, meaning and expiry."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.contract.api import Sdk, expect_refusals, until
from tests.contract.conftest import plain_http
from tests.contract.engines import Server


@pytest.fixture
def room() -> str:
    """A namespace of the test's own."""
    return uuid.uuid4().hex


async def test_an_item_from_put_to_delete(sdk: Sdk, room: str) -> None:
    await sdk.store.put_item([room, "notes"], "one", {"text": "a", "n": 1})
    item = await sdk.store.get_item([room, "notes"], "one")
    assert (item["namespace"], item["key"], item["value"]) == ([room, "notes"], "one", {"text": "a", "n": 1})
    await sdk.store.put_item([room, "notes"], "one", {"text": "b"})
    changed = await sdk.store.get_item([room, "notes"], "one")
    assert changed["value"] == {"text": "b"}
    assert changed["updated_at"] > item["updated_at"]
    await sdk.store.delete_item([room, "notes"], "one")
    assert await sdk.store.get_item([room, "notes"], "one") is None
    await sdk.store.delete_item([room, "notes"], "one")


async def test_search(sdk: Sdk, room: str) -> None:
    for n in range(5):
        await sdk.store.put_item(
            [room, "a" if n % 2 else "b", "c"], str(n), {"n": n, "kind": {"even": n % 2 == 0}}
        )

    async def keys(*prefix: str, **query: Any) -> list[str]:
        found = await sdk.store.search_items([room, *prefix], **query)
        return sorted(item["key"] for item in found["items"])

    assert await keys() == ["0", "1", "2", "3", "4"]
    assert await keys("a") == ["1", "3"]
    assert await keys("a", "c") == ["1", "3"]
    assert await keys("absent") == []
    assert await keys(filter={"n": 3}) == ["3"]
    assert await keys(filter={"n": {"$gte": 2, "$lt": 4}}) == ["2", "3"]
    assert await keys(filter={"n": {"$ne": 0}}) == ["1", "2", "3", "4"]
    assert await keys(filter={"kind": {"even": True}}) == ["0", "2", "4"]
    assert len(await keys(limit=2)) == 2
    assert len(await keys(limit=3, offset=3)) == 2
    assert await keys(filter={"n' OR 1=1 --": 1}) == []
    assert await keys(filter={"n": "1' OR '1'='1"}) == []


async def test_a_prefix_ends_at_a_label(sdk: Sdk, room: str) -> None:
    await sdk.store.put_item([room, "user"], "1", {"n": 1})
    await sdk.store.put_item([room, "username"], "2", {"n": 2})
    await sdk.store.put_item([room, "u_er"], "3", {"n": 3})
    for prefix, keys in (("user", ["1"]), ("u_er", ["3"]), ("u%", [])):
        found = await sdk.store.search_items([room, prefix])
        assert [item["key"] for item in found["items"]] == keys


async def test_namespaces(sdk: Sdk, room: str) -> None:
    for labels in (("a", "x"), ("a", "y", "deep"), ("b", "x")):
        await sdk.store.put_item([room, *labels], "k", {"n": 1})

    async def named(**query: Any) -> list[list[str]]:
        found = await sdk.store.list_namespaces(**{"prefix": [room], **query})
        return sorted(labels[1:] for labels in found["namespaces"])

    assert await named() == [["a", "x"], ["a", "y", "deep"], ["b", "x"]]
    assert await named(prefix=[room, "a"]) == [["a", "x"], ["a", "y", "deep"]]
    assert await named(suffix=["x"]) == [["a", "x"], ["b", "x"]]
    assert await named(max_depth=2) == [["a"], ["b"]]
    assert await named(limit=1, offset=1) == [["a", "y", "deep"]]
    assert await named(prefix=[room, "*"], suffix=["x"]) == [["a", "x"], ["b", "x"]]


async def test_search_by_meaning(expiring: Server, room: str) -> None:
    async with plain_http(expiring.url) as http:
        sdk: Sdk = LangGraphClient(http)
        for key, text in (("pet", "the cat sleeps"), ("ride", "a car and a train"), ("fruit", "an apple")):
            await sdk.store.put_item([room], key, {"text": text})
        await sdk.store.put_item([room], "unindexed", {"text": "cat cat"}, index=False)
        found = (await sdk.store.search_items([room], query="cat", limit=2))["items"]
        assert found[0]["key"] == "pet"
        assert found[0]["score"] > 0.9 > found[1]["score"]
        train = (await sdk.store.search_items([room], query="train", filter={"text": "an apple"}))["items"]
        assert "ride" not in [item["key"] for item in train]
        await sdk.store.put_item([room], "pet", {"text": "now a pear"})
        assert (await sdk.store.search_items([room], query="pear", limit=1))["items"][0]["key"] == "pet"
        await sdk.store.delete_item([room], "pet")
        left = (await sdk.store.search_items([room], query="pear"))["items"]
        assert "pet" not in [item["key"] for item in left]


async def test_threads_and_items_expire(expiring: Server, room: str) -> None:
    async with plain_http(expiring.url) as http:
        sdk: Sdk = LangGraphClient(http)
        await sdk.store.put_item([room], "lasting", {"n": 2})
        lasting, brief, pruned, shortened = [
            (await sdk.threads.create(ttl=ttl))["thread_id"]
            for ttl in (
                None,
                {"ttl": 0.02, "strategy": "delete"},
                {"ttl": 0.05, "strategy": "keep_latest"},
                9000,
            )
        ]
        assert (await sdk.threads.get(lasting, include=["ttl"]))["ttl"]["strategy"] == "delete"
        await sdk.store.put_item([room], "brief", {"n": 1}, ttl=0.02)
        await sdk.threads.update(shortened, metadata={}, ttl=0.01)
        await sdk.runs.wait(pruned, "echo", input={"text": "a"})

        async def swept() -> bool:
            items = (await sdk.store.search_items([room], refresh_ttl=False))["items"]
            answers = [(await http.get(f"/threads/{i}")).status_code for i in (lasting, brief, shortened)]
            return (
                [item["key"] for item in items] == ["lasting"]
                and answers == [200, 404, 404]
                and len(await sdk.threads.get_history(pruned, limit=10)) == 1
            )

        await until(swept, "what has expired is gone", seconds=100)
        assert await sdk.store.get_item([room], "brief") is None
        assert (await sdk.threads.get_state(pruned))["values"]["heard"] == ["a"]


async def test_bad_input(http: httpx.AsyncClient, room: str) -> None:
    item = {"namespace": [room], "key": "k", "value": {"n": 1}}
    await expect_refusals(
        http,
        [
            ("PUT", "/store/items", {**item, "namespace": ["a.b"]}, 422, "periods"),
            ("PUT", "/store/items", {**item, "namespace": [""]}, 422, "non-empty"),
            ("PUT", "/store/items", {**item, "value": "text"}, 422, "object"),
            ("PUT", "/store/items", {"namespace": [room], "value": {}}, 422, "key"),
            ("GET", f"/store/items?namespace={room}", None, 400, "Key is required"),
            ("POST", "/store/items/search", {"namespace_prefix": [room], "limit": "x"}, 422, "x"),
            ("POST", "/store/items/search", {"namespace_prefix": "x"}, 422, "array"),
            ("POST", "/store/namespaces", {"max_depth": "deep"}, 422, "deep"),
        ],
    )
    for query in (
        {"filter": {"n": {"$regex": "x"}}},
        {"filter": {"n": {"$gt": {"a": 1}}}},
        {"limit": -1},
        {"offset": -1},
        {"filter": {"n": "nul \x00"}},
    ):
        answer = await http.post("/store/items/search", json={"namespace_prefix": [room], **query})
        assert answer.status_code < 500, (query, answer.text)
