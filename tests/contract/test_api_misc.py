"""Health, information, metrics; agent protocols; another graph's node; webhooks."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import uvicorn
from langgraph.pregel.remote import RemoteGraph
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.contract.api import Sdk, expect_refusals, thread_after, until


async def test_health_and_information(http: httpx.AsyncClient) -> None:
    assert (await http.get("/ok")).json()["ok"] is True
    assert (await http.get("/ok?check_db=1")).json()["ok"] is True
    info = (await http.get("/info")).json()
    assert info["version"]
    assert (info["flags"]["assistants"], info["flags"]["crons"]) == (True, True)
    assert "/threads" in (await http.get("/openapi.json")).json()["paths"]
    assert (await http.get("/docs")).status_code == 200
    assert (await http.get("/absent")).status_code == 404
    assert (await http.delete("/threads")).status_code == 405


async def test_metrics(sdk: Sdk, http: httpx.AsyncClient) -> None:
    await thread_after(sdk, "echo", {"text": "a"})
    told = (await http.get("/metrics?format=json")).json()
    assert told["workers"]["max"] == 20
    assert {"n_pending", "n_running"} <= set(told["queue"])

    async def text() -> str | None:
        answer = (await http.get("/metrics")).text
        names = ("lg_api_workers_max", "lg_api_workers_active", "lg_api_workers_available")
        return answer if all(name in answer for name in names) else None

    assert "lg_api_http_requests_total" in await until(text, "the gauges are there")


async def test_metrics_of_the_queue_and_the_pools(http: httpx.AsyncClient) -> None:
    told = (await http.get("/metrics?format=json")).json()
    assert told["postgres"]["pool_max"] > 0
    assert told["redis"]["max_connections"] > 0
    names = [f"num_{status}_runs" for status in ("pending", "running")]
    names += [f"{pool}_pool_{gauge}" for pool in ("pg", "redis") for gauge in ("max", "size", "available")]
    names += [
        "pg_pool_requests_queued_total",
        "pg_pool_requests_errors_total",
        "run_queue_wait_time_1st_attempt",
    ]

    async def all_there() -> bool:
        answer = (await http.get("/metrics")).text
        missing = [name for name in names if f"lg_api_{name}" not in answer]
        return not missing

    await until(all_there, f"the gauges are there: {names}")


async def test_mcp(http: httpx.AsyncClient) -> None:
    async def call(method: str, params: dict[str, Any]) -> Any:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await http.post(
            "/mcp", json=message, headers={"accept": "application/json, text/event-stream"}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    who = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    assert (await call("initialize", who))["result"]["capabilities"]["tools"] is not None
    tools = (await call("tools/list", {}))["result"]["tools"]
    assert "text" in next(tool for tool in tools if tool["name"] == "echo")["inputSchema"]["properties"]
    said = await call("tools/call", {"name": "echo", "arguments": {"text": "hello"}})
    assert "hello" in str(said["result"]["content"])
    assert not said["result"].get("isError")
    assert "error" in await call("sing", {})


async def test_a2a(sdk: Sdk, http: httpx.AsyncClient) -> None:
    (talker,) = await sdk.assistants.search(graph_id="talker", metadata={"created_by": "system"})
    message = {
        "role": "user",
        "parts": [{"kind": "text", "text": "hello there"}],
        "messageId": str(uuid.uuid4()),
    }
    path = f"/a2a/{talker['assistant_id']}"
    answer = await http.post(
        path,
        json={"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {"message": message}},
        headers={"accept": "application/json"},
    )
    task = answer.json()["result"]
    assert task["status"]["state"] == "completed"
    assert "hello there" in str(task["artifacts"])
    got = await http.post(
        path,
        json={
            "jsonrpc": "2.0",
            "id": "2",
            "method": "tasks/get",
            "params": {"id": task["id"], "contextId": task["contextId"]},
        },
        headers={"accept": "application/json"},
    )
    assert got.json()["result"]["status"]["state"] == "completed"
    card = await http.get("/.well-known/agent-card.json", params={"assistant_id": talker["assistant_id"]})
    assert card.json()["name"]


async def test_remote_graph(server_url: str, sdk: Sdk) -> None:
    remote = RemoteGraph("echo", url=server_url)
    thread_id = (await sdk.threads.create())["thread_id"]
    config: Any = {"configurable": {"thread_id": thread_id}}
    assert await remote.ainvoke({"text": "a"}, config) == {"text": "a", "heard": ["a"]}
    chunks = [chunk async for chunk in remote.astream({"text": "b"}, config, stream_mode="updates")]
    assert chunks == [{"say": {"heard": ["b"]}}]
    state = await remote.aget_state(config)
    assert state.values["heard"] == ["a", "b"]
    assert len([one async for one in remote.aget_state_history(config)]) == 6
    changed = await remote.aupdate_state(config, {"heard": ["by hand"]}, as_node="say")
    assert (await remote.aget_state(changed)).values["heard"] == ["a", "b", "by hand"]
    assert "say" in (await remote.aget_graph()).nodes


async def test_webhooks(sdk: Sdk, http: httpx.AsyncClient) -> None:
    received: dict[str, Any] = {}

    async def receive(request: Request) -> Response:
        received[request.path_params["name"]] = await request.json()
        return Response(status_code=200)

    app = Starlette(routes=[Route("/hook/{name}", receive, methods=["POST"])])
    receiver = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    serving = asyncio.create_task(receiver.serve())

    async def listening() -> bool:
        return receiver.started

    await until(listening, "the receiver listens")
    port = receiver.servers[0].sockets[0].getsockname()[1]
    try:
        thread_id = await thread_after(
            sdk, "echo", {"text": "a"}, webhook=f"http://127.0.0.1:{port}/hook/good"
        )
        failed = await thread_after(
            sdk,
            "failing",
            {"reason": "no ink"},
            raise_error=False,
            webhook=f"http://127.0.0.1:{port}/hook/bad",
        )
        await sdk.runs.wait(None, "echo", input={"text": "b"}, webhook=f"http://127.0.0.1:{port}/hook/alone")

        async def all_in() -> bool:
            return {"good", "bad", "alone"} <= set(received)

        await until(all_in, "three webhooks have come")
    finally:
        receiver.should_exit = True
        await serving
    good, bad = received["good"], received["bad"]
    assert (good["thread_id"], good["status"], good["values"]["heard"]) == (thread_id, "success", ["a"])
    assert {"run_id", "run_started_at", "run_ended_at", "webhook_sent_at"} <= set(good)
    assert (bad["thread_id"], bad["status"]) == (failed, "error")
    assert "no ink" in str(bad["error"])
    assert received["alone"]["status"] == "success"


async def test_bad_input(http: httpx.AsyncClient) -> None:
    await expect_refusals(
        http,
        [
            ("POST", "/mcp", b"{", 400, ""),
            ("GET", "/mcp", None, 405, ""),
            ("POST", f"/a2a/{uuid.uuid4()}", {"jsonrpc": "1.0"}, 200, "jsonrpc"),
            ("POST", "/threads", "[" * 100_000, 422, "JSON"),
        ],
    )
