"""Assistants: their life, their versions, how they are found, what they tell about their graph."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest
from langgraph_sdk.errors import ConflictError, NotFoundError

from tests.contract.api import Sdk, expect_refusals, thread_after


async def test_an_assistant_from_create_to_delete(sdk: Sdk) -> None:
    made = await sdk.assistants.create(
        "reporter",
        name="first",
        description="says what it sees",
        metadata={"team": "a"},
        context={"tone": "dry"},
    )
    assert (made["version"], made["name"], made["graph_id"]) == (1, "first", "reporter")
    assert made["metadata"]["team"] == "a"
    assert made["context"] == {"tone": "dry"}
    assistant_id = made["assistant_id"]
    assert await sdk.assistants.get(assistant_id) == made

    changed = await sdk.assistants.update(
        assistant_id, name="second", metadata={"shift": "late"}, context={"tone": "warm"}
    )
    assert (changed["version"], changed["name"], changed["context"]) == (2, "second", {"tone": "warm"})
    assert changed["metadata"] == {"team": "a", "shift": "late"}
    versions = await sdk.assistants.get_versions(assistant_id)
    assert [(v["version"], v["name"]) for v in versions] == [(2, "second"), (1, "first")]
    assert [v["version"] for v in await sdk.assistants.get_versions(assistant_id, limit=1, offset=1)] == [1]

    back = await sdk.assistants.set_latest(assistant_id, 1)
    assert (back["version"], back["name"], back["metadata"]) == (1, "first", {"team": "a"})
    assert (await sdk.assistants.get(assistant_id))["version"] == 1
    assert (await sdk.assistants.update(assistant_id, name="third"))["version"] == 3

    await sdk.assistants.delete(assistant_id)
    with pytest.raises(NotFoundError):
        await sdk.assistants.get(assistant_id)
    with pytest.raises(NotFoundError):
        await sdk.assistants.get_versions(assistant_id)


async def test_an_earlier_version_has_its_own_context(sdk: Sdk) -> None:
    assistant_id = (await sdk.assistants.create("reporter", context={"tone": "dry"}))["assistant_id"]
    await sdk.assistants.update(assistant_id, context={"tone": "warm"})
    assert (await sdk.assistants.set_latest(assistant_id, 1))["context"] == {"tone": "dry"}
    assert (await sdk.runs.wait(None, assistant_id, input={}))["tone"] == "dry"


async def test_creating_one_again(sdk: Sdk) -> None:
    assistant_id = str(uuid.uuid4())
    made = await sdk.assistants.create("echo", assistant_id=assistant_id, name="one")
    with pytest.raises(ConflictError):
        await sdk.assistants.create("echo", assistant_id=assistant_id, name="two")
    again = await sdk.assistants.create("echo", assistant_id=assistant_id, name="two", if_exists="do_nothing")
    assert again == made


async def test_search_and_count(sdk: Sdk, http: httpx.AsyncClient) -> None:
    mark = str(uuid.uuid4())
    for name in ("Bell", "anvil", "Cart"):
        await sdk.assistants.create("echo", name=name, metadata={"mark": mark, "nest": {"deep": [1, 2]}})
    await sdk.assistants.create("slow", name="other", metadata={"mark": mark})

    async def names(**query: Any) -> list[str]:
        found = await sdk.assistants.search(metadata={"mark": mark}, **query)
        return [assistant["name"] for assistant in found]

    assert set(await names(graph_id="echo")) == {"Bell", "anvil", "Cart"}
    assert await names() == ["other", "Cart", "anvil", "Bell"]
    assert await names(sort_by="created_at", sort_order="asc") == ["Bell", "anvil", "Cart", "other"]
    assert await names(name="anv") == ["anvil"]
    assert await names(limit=2, offset=1, sort_by="created_at", sort_order="asc") == ["anvil", "Cart"]
    assert await sdk.assistants.count(metadata={"mark": mark}) == 4
    assert await sdk.assistants.count(metadata={"mark": mark}, graph_id="echo") == 3
    assert await sdk.assistants.count(metadata={"mark": mark}, name="BELL") == 1
    assert await sdk.assistants.count(metadata={"mark": mark, "nest": {"deep": [1, 2]}}) == 3

    page = await http.post("/assistants/search", json={"metadata": {"mark": mark}, "limit": 3})
    assert page.headers["x-pagination-next"] == "3"
    last = await http.post("/assistants/search", json={"metadata": {"mark": mark}, "limit": 3, "offset": 3})
    assert "x-pagination-next" not in last.headers
    chosen = await sdk.assistants.search(metadata={"mark": mark}, select=["name"], graph_id="slow")
    assert chosen == [{"name": "other"}]


async def test_metadata_is_matched_by_containment(sdk: Sdk) -> None:
    mark = str(uuid.uuid4())
    await sdk.assistants.create("echo", metadata={"mark": mark, "list": [1, {"a": 2}]})
    assert await sdk.assistants.count(metadata={"mark": mark, "list": [{"a": 2}]}) == 1
    assert await sdk.assistants.count(metadata={"mark": mark, "list": [2]}) == 0


async def test_there_is_one_for_each_graph(sdk: Sdk) -> None:
    found = await sdk.assistants.search(metadata={"created_by": "system"}, limit=100)
    assert {"echo", "slow", "nested", "talker"} <= {assistant["graph_id"] for assistant in found}
    assert len({assistant["graph_id"] for assistant in found}) == len(found)


async def test_what_it_tells_about_its_graph(sdk: Sdk, http: httpx.AsyncClient) -> None:
    assistant_id = (await sdk.assistants.create("nested"))["assistant_id"]
    schemas = await sdk.assistants.get_schemas(assistant_id)
    assert schemas["graph_id"] == "nested"
    assert set(schemas["state_schema"]["properties"]) == {"ask", "path"}
    assert {"input_schema", "output_schema", "config_schema", "context_schema"} <= set(schemas)
    reporter = (await sdk.assistants.create("reporter"))["assistant_id"]
    assert "tone" in (await sdk.assistants.get_schemas(reporter))["context_schema"]["properties"]

    graph = await sdk.assistants.get_graph(assistant_id)
    assert {node["id"] for node in graph["nodes"]} == {"__start__", "before", "inner", "after", "__end__"}
    drawn = await sdk.assistants.get_graph(assistant_id, xray=True)
    assert "inner:decide" in {node["id"] for node in drawn["nodes"]}
    assert set(await sdk.assistants.get_subgraphs(assistant_id)) == {"inner"}
    inner = (await sdk.assistants.get_subgraphs(assistant_id, namespace="inner", recurse=True))["inner"]
    assert "inner_note" in inner["state_schema"]["properties"]
    # A graph's name stands for its own assistant.
    assert (await http.get("/assistants/echo/graph")).status_code == 200


async def test_a_run_uses_its_assistants_settings(sdk: Sdk) -> None:
    warm = (await sdk.assistants.create("reporter", context={"tone": "warm"}))["assistant_id"]
    red = (
        await sdk.assistants.create("reporter", config={"configurable": {"colour": "red"}, "tags": ["x"]})
    )["assistant_id"]
    assert (await sdk.runs.wait(None, warm, input={}))["tone"] == "warm"
    assert (await sdk.runs.wait(None, warm, input={}, context={"tone": "cold"}))["tone"] == "cold"
    said = await sdk.runs.wait(None, red, input={})
    assert said["colour"] == "red"
    assert "x" in said["tags"]
    await sdk.assistants.update(warm, context={"tone": "new"})
    assert (await sdk.runs.wait(None, warm, input={}))["tone"] == "new"


async def test_deleting_one_with_its_threads(sdk: Sdk, http: httpx.AsyncClient) -> None:
    assistant_id = (await sdk.assistants.create("echo"))["assistant_id"]
    thread_id = await thread_after(sdk, assistant_id, {"text": "a"})
    other_id = await thread_after(sdk, "echo", {"text": "b"})
    assert (await http.delete(f"/assistants/{assistant_id}?delete_threads=true")).status_code == 204
    assert (await http.get(f"/threads/{thread_id}")).status_code == 404
    assert (await http.get(f"/threads/{other_id}")).status_code == 200


async def test_bad_input(sdk: Sdk, http: httpx.AsyncClient) -> None:
    assistant_id = (await sdk.assistants.create("echo"))["assistant_id"]
    both = {"config": {"configurable": {"a": 1}}, "context": {"b": 2}}
    absent = str(uuid.uuid4())
    await expect_refusals(
        http,
        [
            ("POST", "/assistants", {"graph_id": "absent"}, 404, "absent"),
            ("POST", "/assistants", {"graph_id": "echo", "assistant_id": "nonsense"}, 422, "UUID"),
            ("POST", "/assistants", {"graph_id": "echo", "if_exists": "maybe"}, 422, "maybe"),
            ("POST", "/assistants", {"graph_id": "echo", **both}, 400, "configurable and context"),
            ("POST", "/assistants", "{", 422, "Invalid JSON"),
            ("POST", "/assistants", {}, 422, "graph_id"),
            ("GET", "/assistants/nonsense", None, 422, "UUID"),
            ("GET", f"/assistants/{absent}", None, 404, "not found"),
            ("GET", f"/assistants/{absent}/schemas", None, 404, "not found"),
            ("GET", f"/assistants/{assistant_id}/graph?xray=-1", None, 422, "xray"),
            ("PATCH", f"/assistants/{absent}", {"name": "x"}, 404, "not found"),
            ("PATCH", f"/assistants/{assistant_id}", {"graph_id": "absent"}, 404, "absent"),
            ("PATCH", f"/assistants/{assistant_id}", both, 400, "configurable and context"),
            ("DELETE", f"/assistants/{absent}", None, 404, "not found"),
            ("POST", f"/assistants/{assistant_id}/latest", {"version": 99}, 404, "99"),
            ("POST", f"/assistants/{assistant_id}/latest", {"version": "one"}, 422, "one"),
            ("POST", f"/assistants/{absent}/versions", {}, 404, "not found"),
            ("POST", "/assistants/search", {"limit": -1}, 422, "-1"),
            ("POST", "/assistants/search", {"offset": -1}, 422, "-1"),
            ("POST", "/assistants/search", {"sort_by": "name; drop table assistant"}, 422, "sort_by"),
            ("POST", "/assistants/search", {"select": ["password"]}, 422, "password"),
            ("POST", "/assistants/search", {"metadata": "x"}, 422, "object"),
        ],
    )
    injected = await sdk.assistants.search(metadata={"a' OR '1'='1": "x'; DROP TABLE assistant; --"})
    assert injected == []
    assert await sdk.assistants.search(name="%' OR true --") == []
    assert all("_" in found["name"] for found in await sdk.assistants.search(name="_", limit=100))
