"""A locked server: who gets in, what each user sees, and that every resource asks."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.contract.api import Sdk, tables_with, until, until_status
from tests.contract.conftest import plain_http
from tests.contract.engines import Server


@pytest.fixture
async def callers(secured: Server) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """A client for each user; the one with no name brings no token."""
    async with AsyncExitStack() as stack:
        yield {
            user: await stack.enter_async_context(plain_http(secured.url, user))
            for user in ("", "alice", "bob", "nobody", "odd", "nested", "stranger")
        }


def as_users(callers: dict[str, httpx.AsyncClient], *users: str) -> list[Sdk]:
    """The SDK as each of these users."""
    return [LangGraphClient(callers[user]) for user in users]


async def test_who_gets_in(callers: dict[str, httpx.AsyncClient]) -> None:
    for user in ("", "stranger"):
        for method, path in (
            ("POST", "/threads"),
            ("GET", f"/threads/{uuid.uuid4()}"),
            ("PUT", "/store/items"),
        ):
            answer = await callers[user].request(method, path, json={})
            assert (answer.status_code, "Who are you?" in answer.text) == (401, True)
    studio = await callers[""].post("/threads", json={}, headers={"x-auth-scheme": "langsmith"})
    assert studio.status_code in (401, 403)
    assert (await callers[""].get("/ok")).status_code == 200
    assert (await callers["nobody"].post("/threads", json={})).status_code == 403


async def test_each_sees_its_own_threads_and_runs(callers: dict[str, httpx.AsyncClient]) -> None:
    alice, bob = as_users(callers, "alice", "bob")
    thread = await alice.threads.create(metadata={"owner": "bob", "about": "x"})
    assert thread["metadata"]["owner"] == "alice"
    thread_id = thread["thread_id"]
    said = await alice.runs.wait(thread_id, "reporter", input={})
    assert said["user"] == "alice"
    run = await alice.runs.create(thread_id, "slow", input={"step_seconds": 30})
    await until_status(alice, thread_id, run["run_id"], "running")

    base, of_run = f"/threads/{thread_id}", f"/threads/{thread_id}/runs/{run['run_id']}"
    body: dict[str, Any] = {"assistant_id": "echo", "input": {"text": "a"}}
    attempts = [
        ("GET", base, None),
        ("PATCH", base, {"metadata": {"stolen": True}}),
        ("DELETE", base, None),
        ("POST", f"{base}/copy", None),
        ("GET", f"{base}/state", None),
        ("POST", f"{base}/state", {"values": {"tone": "x"}}),
        ("POST", f"{base}/history", {}),
        ("GET", f"{base}/storage", None),
        ("GET", f"{base}/runs", None),
        ("POST", f"{base}/runs", body),
        ("POST", f"{base}/runs/wait", body),
        ("GET", of_run, None),
        ("DELETE", of_run, None),
        ("POST", f"{of_run}/cancel", None),
        ("GET", f"{of_run}/join", None),
        ("POST", "/runs/cancel", {"thread_id": thread_id, "run_ids": [run["run_id"]]}),
        ("POST", f"{base}/runs/crons", {"assistant_id": "echo", "schedule": "0 0 1 1 *"}),
    ]
    answers = await asyncio.gather(*(callers["bob"].request(m, p, json=b) for m, p, b in attempts))
    wrong = [
        f"{attempt[:2]}: {answer.status_code} {answer.text[:200]}"
        for attempt, answer in zip(attempts, answers, strict=True)
        if answer.status_code not in (403, 404, 409)
    ]
    assert not wrong, "\n".join(wrong)
    prune = await callers["bob"].post("/threads/prune", json={"thread_ids": [thread_id]})
    assert prune.status_code == 404 or prune.json()["pruned_count"] == 0
    stream = await callers["bob"].get(f"{of_run}/stream", timeout=10)
    assert "404" in stream.text or stream.status_code == 404

    assert await bob.threads.search(metadata={"about": "x"}) == []
    assert await bob.threads.count(metadata={"about": "x"}) == 0
    assert [t["thread_id"] for t in await alice.threads.search(metadata={"about": "x"})] == [thread_id]
    assert "stolen" not in (await alice.threads.get(thread_id))["metadata"]
    assert (await alice.runs.get(thread_id, run["run_id"]))["status"] == "running"
    await alice.runs.cancel(thread_id, run["run_id"], wait=True)


async def test_each_sees_its_own_assistants_and_crons(callers: dict[str, httpx.AsyncClient]) -> None:
    alice, bob = as_users(callers, "alice", "bob")
    assistant = await alice.assistants.create("echo", metadata={"about": "y"})
    cron: Any = await alice.crons.create("echo", schedule="0 0 1 1 *", metadata={"about": "y"})
    of_assistant, of_cron = f"/assistants/{assistant['assistant_id']}", f"/runs/crons/{cron['cron_id']}"
    for method, path, body in (
        ("GET", of_assistant, None),
        ("PATCH", of_assistant, {"name": "stolen"}),
        ("DELETE", of_assistant, None),
        ("GET", f"{of_assistant}/schemas", None),
        ("POST", f"{of_assistant}/versions", {}),
        ("POST", f"{of_assistant}/latest", {"version": 1}),
        ("POST", "/runs/wait", {"assistant_id": assistant["assistant_id"], "input": {"text": "a"}}),
        ("GET", of_cron, None),
        ("PATCH", of_cron, {"enabled": False}),
        ("DELETE", of_cron, None),
    ):
        answer = await callers["bob"].request(method, path, json=body)
        assert answer.status_code == 404, (method, path, answer.status_code, answer.text)
    mine = {"about": "y"}
    assert await bob.assistants.search(metadata=mine) == await bob.crons.search(metadata=mine) == []
    assert await bob.assistants.count(metadata=mine) == await bob.crons.count(metadata=mine) == 0
    assert await alice.assistants.count(metadata=mine) == await alice.crons.count(metadata=mine) == 1
    await alice.crons.delete(cron["cron_id"])
    await alice.assistants.delete(assistant["assistant_id"])


async def test_each_has_its_own_part_of_the_store(callers: dict[str, httpx.AsyncClient]) -> None:
    alice, bob = as_users(callers, "alice", "bob")
    await alice.store.put_item(["notes"], "k", {"n": 1})
    assert (await alice.store.get_item(["notes"], "k"))["value"] == {"n": 1}
    assert await bob.store.get_item(["notes"], "k") is None
    assert (await bob.store.search_items(["notes"]))["items"] == []
    await bob.store.delete_item(["notes"], "k")
    assert (await alice.store.search_items(["notes"]))["items"][0]["key"] == "k"


async def test_filters_with_operators(callers: dict[str, httpx.AsyncClient]) -> None:
    alice, nested = as_users(callers, "alice", "nested")
    mark = {"mark": str(uuid.uuid4())}
    shared = await alice.threads.create(metadata={**mark, "shared_with": ["nested", "bob"]})
    await alice.threads.create(metadata={**mark, "shared_with": ["bob"]})
    own = await nested.threads.create(metadata=mark)
    found = await nested.threads.search(metadata=mark)
    assert {thread["thread_id"] for thread in found} == {shared["thread_id"], own["thread_id"]}
    assert await nested.threads.count(metadata=mark) == 2
    assert (await nested.threads.get(shared["thread_id"]))["thread_id"] == shared["thread_id"]


async def test_a_filter_that_the_server_does_not_understand_shows_nothing(
    callers: dict[str, httpx.AsyncClient],
) -> None:
    mark = {"mark": str(uuid.uuid4())}
    shared = await LangGraphClient(callers["alice"]).threads.create(metadata=mark)
    odd = callers["odd"]
    for answer in (
        await odd.get(f"/threads/{shared['thread_id']}"),
        await odd.post("/threads/search", json={"metadata": mark}),
        await odd.post("/threads/count", json={"metadata": mark}),
    ):
        assert answer.status_code >= 400 or answer.json() in ([], 0), answer.text


async def test_a_cron_runs_as_its_owner(callers: dict[str, httpx.AsyncClient]) -> None:
    (alice,) = as_users(callers, "alice")
    thread_id = (await alice.threads.create())["thread_id"]
    cron: Any = await alice.crons.create_for_thread(thread_id, "reporter", schedule="* * * * * *", input={})

    async def has_run() -> bool:
        return bool(await alice.runs.list(thread_id, status="success"))

    await until(has_run, "the cron has fired")
    await alice.crons.delete(cron["cron_id"])
    assert (await alice.threads.get_state(thread_id))["values"]["user"] == "alice"


async def test_routes_of_the_deployment(callers: dict[str, httpx.AsyncClient]) -> None:
    assert (await callers[""].get("/extra/whoami")).status_code == 401
    answer = await callers["alice"].get("/extra/whoami")
    assert answer.json() == {"user": "alice", "opened": True}
    assert answer.headers["x-stamp"] == "stamped"
    assert (await callers["alice"].post("/mcp", json={})).status_code == 404
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    allowed = await callers[""].options("/threads", headers=asked)
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    refused = await callers[""].options("/threads", headers={**asked, "origin": "https://evil.example"})
    assert "access-control-allow-origin" not in refused.headers


async def test_custom_encryption(encrypted: Server) -> None:
    secret = f"secret-{uuid.uuid4().hex}"
    async with plain_http(encrypted.url) as http:
        sdk: Sdk = LangGraphClient(http)
        thread = await sdk.threads.create(metadata={"note": secret})
        thread_id = thread["thread_id"]
        assert thread["metadata"]["note"] == secret
        assert (await sdk.runs.wait(thread_id, "echo", input={"text": secret}))["heard"] == [secret]
        assert (await sdk.threads.get(thread_id))["values"]["heard"] == [secret]
        assert (await sdk.threads.get_state(thread_id))["values"]["heard"] == [secret]
        (run,) = await sdk.runs.list(thread_id)
        assert run["kwargs"]["input"] == {"text": secret}
        parts = [
            part
            async for part in sdk.runs.stream(
                thread_id, "echo", input={"text": secret}, stream_mode=["updates"]
            )
        ]
        assert parts[-1].data == {"say": {"heard": [secret]}}
        await sdk.store.put_item(["a"], "k", {"text": secret})
        assert (await sdk.store.get_item(["a"], "k"))["value"] == {"text": secret}
        assistant = await sdk.assistants.create("reporter", context={"tone": secret})
        assert (await sdk.runs.wait(None, assistant["assistant_id"], input={}))["tone"] == secret
    if encrypted.database_uri:
        assert tables_with(encrypted.database_uri, secret) == []
