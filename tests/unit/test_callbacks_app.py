"""The receiver's front door, as far as it goes without a database: token, limits, what a webhook must be."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from sdk_client.callbacks import CallbackSettings, create_app
from sdk_client.callbacks.events import load_handler
from sdk_client.callbacks.settings import load_settings
from sdk_client.errors import ConfigurationError

TOKEN = "a-token-for-the-tests"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
RUNS = "/callbacks/runs"
# Not random: they are in the names of tests, which several processes must agree on.
RUN_ID = str(uuid.uuid5(uuid.NAMESPACE_URL, "run"))
THREAD_ID = str(uuid.uuid5(uuid.NAMESPACE_URL, "thread"))
# Port 1 refuses: a request that reaches the database is answered 503.
NO_DATABASE = "postgresql://nobody:s3cret-password@127.0.0.1:1/none"


@pytest.fixture
def app() -> Starlette:
    return create_app(
        CallbackSettings.model_validate(
            {
                "webhook_token": TOKEN,
                "database_uri": NO_DATABASE,
                "server_url": "http://127.0.0.1:1",
                "max_body_bytes": 2048,
                "body_timeout_seconds": 0.2,
            }
        )
    )


@pytest.fixture
async def http(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://receiver") as client:
        yield client


def webhook(**changes: Any) -> bytes:
    body = {"run_id": RUN_ID, "thread_id": THREAD_ID, "status": "success", **changes}
    return json.dumps({name: value for name, value in body.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe9"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_the_token_the_answer_is_401(
    http: httpx.AsyncClient, header: str | None, method: str
) -> None:
    headers = {} if header is None else {b"Authorization": header.encode("latin-1")}
    answer = await http.request(method, RUNS, headers=headers, content=webhook())
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_401_is_sent_before_the_body_is_read(app: Starlette) -> None:
    order: list[str] = []

    async def receive() -> dict[str, Any]:
        order.append("read")
        return {"type": "http.request", "body": b"x", "more_body": False}

    async def send(message: Any) -> None:
        order.append(message["type"])

    scope = {"type": "http", "method": "POST", "path": RUNS, "query_string": b"", "headers": []}
    await app(scope, receive, send)
    assert order == ["http.response.start", "http.response.body", "read", "http.response.body"]


async def test_a_body_is_counted_whatever_its_length_header_says(http: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"[" * 512

    for headers in ({}, {"content-length": "10"}, {"content-length": "9" * 400}):
        answer = await http.post(RUNS, headers={**AUTHORIZED, **headers}, content=endless())
        assert answer.status_code == 413, headers
        assert "2048" in answer.json()["error"]


async def test_a_body_that_never_ends_is_cut_off(http: httpx.AsyncClient) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    answer = await http.post(RUNS, headers=AUTHORIZED, content=stalled())
    assert answer.status_code == 408


@pytest.mark.parametrize(
    ("body", "status_code", "named"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"\xff\xfe", 400, "JSON"),
        (b"[" * 2000, 400, "JSON"),
        (b'{"run_id": ' + b"9" * 2000 + b"}", 422, "run_id"),
        (b"[]", 400, "object"),
        (webhook(run_id=...), 422, "run_id"),
        (webhook(run_id="../../etc/passwd"), 422, "run_id"),
        (webhook(run_id=7), 422, "run_id"),
        (webhook(thread_id=None), 422, "thread_id"),
        (webhook(thread_id="0" * 32), 422, "thread_id"),
        (webhook(status=...), 422, "status"),
        (webhook(status="'; DROP TABLE"), 422, "status"),
        (webhook(status="a" * 33), 422, "status"),
    ],
)
async def test_a_bad_webhook_is_told_what_is_wrong(
    http: httpx.AsyncClient, body: bytes, status_code: int, named: str
) -> None:
    answer = await http.post(RUNS, headers=AUTHORIZED, content=body)
    assert answer.status_code == status_code
    assert named in answer.json()["error"]


@pytest.mark.parametrize("limit", ["0", "201", "-1", "ten", "1e9", "", "٣"])
async def test_a_wrong_limit_is_refused(http: httpx.AsyncClient, limit: str) -> None:
    answer = await http.get(RUNS, params={"limit": limit}, headers=AUTHORIZED)
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "extra", [{}, {"run_started_at": "yesterday", "webhook_sent_at": 17, "values": {"a": 1}}]
)
async def test_a_good_webhook_gets_as_far_as_the_database(
    http: httpx.AsyncClient, extra: dict[str, Any]
) -> None:
    answer = await http.post(RUNS, headers=AUTHORIZED, content=webhook(**extra))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "password" not in answer.text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"LG_WEBHOOK_TOKEN": None}, "LG_WEBHOOK_TOKEN is not set"),
        ({"LG_WEBHOOK_TOKEN": "short"}, "LG_WEBHOOK_TOKEN is wrong"),
        ({"LG_WEBHOOK_TOKEN": "with a space in the middle"}, "LG_WEBHOOK_TOKEN is wrong"),
        ({"CALLBACKS_DATABASE_URI": "mysql://u:s3cret@h/d"}, "CALLBACKS_DATABASE_URI is wrong"),
        (
            {"CALLBACKS_DATABASE_URI": "postgresql://u:s3cret@h:port/d?ssl=x"},
            "CALLBACKS_DATABASE_URI is wrong",
        ),
        ({"HOLDFAST_URL": None}, "HOLDFAST_URL is not set"),
        ({"HOLDFAST_URL": "localhost:2024"}, "HOLDFAST_URL is wrong"),
        ({"CALLBACKS_MAX_BODY_BYTES": "many"}, "CALLBACKS_MAX_BODY_BYTES is wrong"),
    ],
)
def test_wrong_settings_are_one_line_without_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, changes: dict[str, str | None], named: str
) -> None:
    monkeypatch.chdir(tmp_path)  # away from a developer's .env
    good = {"LG_WEBHOOK_TOKEN": TOKEN, "CALLBACKS_DATABASE_URI": NO_DATABASE, "HOLDFAST_URL": "http://h:1"}
    for name, value in {**good, **changes}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_the_database_falls_back_and_loses_its_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LG_WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setenv("HOLDFAST_URL", "http://127.0.0.1:2024")
    monkeypatch.setenv("CALLBACKS_DATABASE_URI", "")
    monkeypatch.setenv("DATABASE_URI", "postgresql+asyncpg://u:p@h:5432/d")
    assert load_settings().database_uri.get_secret_value() == "postgresql://u:p@h:5432/d"


@pytest.mark.parametrize("reference", ["nowhere", "no.such.module:f", "json:no_such_function", "json:dumps"])
def test_a_wrong_handler_is_named_at_the_start(reference: str) -> None:
    with pytest.raises(ConfigurationError, match="CALLBACKS_HANDLER"):
        load_handler(reference)
