"""The receiver's check of signatures, made here by the library of Standard Webhooks."""

from __future__ import annotations

import base64
import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from sdk_client.callbacks import CallbackSettings, create_app
from sdk_client.callbacks.notification import RejectedError
from sdk_client.callbacks.settings import load_settings
from sdk_client.callbacks.signature import SignatureCheck
from sdk_client.errors import ConfigurationError

BODY = b'{"text": "\xc3\xa9"}'
TOKEN = "a-token-for-the-tests"


def make_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


OLD, NEW, OTHER = make_secret(), make_secret(), make_secret()


def signed(secret: str = NEW, body: bytes = BODY, minutes: float = 0) -> dict[str, str]:
    """The headers of a webhook that was signed some minutes ahead."""
    now = datetime.now(UTC) + timedelta(minutes=minutes)
    identity = str(uuid.uuid4())
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(identity, now, body.decode()),
    }


@pytest.mark.parametrize("secret", [OLD, NEW], ids=["old", "new"])
def test_any_of_the_secrets_is_enough(secret: str) -> None:
    headers = signed(secret)
    assert SignatureCheck(f"{NEW} {OLD}").check(headers, BODY) == headers["webhook-id"]
    two = headers["webhook-signature"] + " v1a,b2xk " + signed(OTHER)["webhook-signature"]
    assert SignatureCheck(secret).check({**headers, "webhook-signature": two}, BODY)


@pytest.mark.parametrize(
    ("given", "changed", "body", "named"),
    [
        ({}, {"webhook-signature": ""}, BODY, "webhook-signature missing"),
        ({"secret": OTHER}, {}, BODY, "not made with LG_WEBHOOK_SIGNING_SECRET"),
        ({}, {}, BODY + b" ", "not made with"),
        ({}, {"webhook-id": "another"}, BODY, "not made with"),
        ({"minutes": -5.5}, {}, BODY, "five minutes"),
        ({"minutes": 5.5}, {}, BODY, "five minutes"),
        ({}, {"webhook-timestamp": "yesterday"}, BODY, "cannot be read"),
        ({}, {"webhook-timestamp": "nan"}, BODY, "cannot be read"),
        ({}, {"webhook-signature": "v1"}, BODY, "cannot be read"),
        ({}, {"webhook-signature": "v1,=é"}, BODY, "cannot be read"),
        ({}, {"webhook-signature": "v1," * 2000}, BODY, "too long"),
        ({}, {}, b"\xff", "cannot be read"),
    ],
)
def test_what_is_not_signed_as_it_must_be_is_refused(
    given: dict[str, Any], changed: dict[str, str], body: bytes, named: str
) -> None:
    # Signed here and not above: the test may run long after it was collected.
    with pytest.raises(RejectedError) as caught:
        SignatureCheck(f"{NEW},{OLD}").check(signed(**given) | changed, body)
    assert caught.value.status_code == 401
    assert named in str(caught.value)


def test_what_is_not_signed_at_all_is_refused() -> None:
    with pytest.raises(RejectedError, match="webhook-id, webhook-timestamp, webhook-signature missing"):
        SignatureCheck(NEW).check({}, BODY)


def test_four_minutes_are_not_too_old() -> None:
    assert SignatureCheck(NEW).check(signed(minutes=-4.5), BODY)


def test_where_nobody_signs_the_id_is_taken_if_it_is_one() -> None:
    for nothing in ("", "off"):
        assert SignatureCheck(nothing).check({}, BODY) is None
        assert SignatureCheck(nothing).check({"webhook-id": "one"}, BODY) == "one"
        with pytest.raises(RejectedError, match="webhook-id"):
            SignatureCheck(nothing).check({"webhook-id": "a b"}, BODY)


async def test_the_app_asks_for_both_the_token_and_the_signature() -> None:
    values: dict[str, Any] = {
        "webhook_token": TOKEN,
        "signing_secret": NEW,
        "database_uri": "postgresql://nobody@127.0.0.1:1/none",
        "server_url": "http://127.0.0.1:1",
    }
    body = f'{{"run_id": "{uuid.uuid4()}", "thread_id": "{uuid.uuid4()}", "status": "success"}}'.encode()
    bearer = {"authorization": f"Bearer {TOKEN}"}
    transport = httpx.ASGITransport(create_app(CallbackSettings.model_validate(values)))
    async with httpx.AsyncClient(transport=transport, base_url="http://receiver/callbacks") as http:
        # What is in order gets as far as the database, which is away.
        for headers, status in (
            (signed(NEW, body), 401),
            (bearer, 401),
            (bearer | signed(OTHER, body), 401),
            (bearer | signed(NEW, body), 503),
        ):
            assert (await http.post("/runs", content=body, headers=headers)).status_code == status
        assert (await http.get("/runs", headers=bearer)).status_code == 503


@pytest.mark.parametrize(
    "secret", ["plain", "whsec_c2hvcnQ=", f"{NEW};{OLD}"], ids=["plain", "short", "semicolon"]
)
def test_a_wrong_secret_is_refused_at_the_start_and_not_shown(
    secret: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)  # away from a developer's .env
    monkeypatch.setenv("LG_WEBHOOK_TOKEN", TOKEN)
    monkeypatch.setenv("CALLBACKS_DATABASE_URI", "postgresql://h/d")
    monkeypatch.setenv("HOLDFAST_URL", "http://h:1")
    monkeypatch.setenv("LG_WEBHOOK_SIGNING_SECRET", secret)
    with pytest.raises(
        ConfigurationError, match="LG_WEBHOOK_SIGNING_SECRET is wrong: must be whsec_"
    ) as caught:
        load_settings()
    assert secret not in str(caught.value)
