"""The outbox without a server: when it tries again, what it signs, what an answer means."""

from __future__ import annotations

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.outbox.schedule import (
    LONGEST_BACK_OFF_SECONDS,
    LONGEST_RETRY_AFTER_SECONDS,
    back_off_seconds,
    retry_after_seconds,
)
from langgraph_runtime_holdfast.outbox.signing import make_secret, signed_headers, signing_keys
from langgraph_runtime_holdfast.settings import settings

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 1), (2, 2), (5, 16), (11, 900), (100_000, LONGEST_BACK_OFF_SECONDS)]
)
def test_back_off_doubles_to_a_bound_and_is_never_the_same(attempts: int, seconds: float) -> None:
    waits = [back_off_seconds(attempts) for _ in range(200)]
    assert 0.75 * seconds <= min(waits) < max(waits) <= 1.25 * seconds
    assert len(set(waits)) > 100


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("9" * 1000, LONGEST_RETRY_AFTER_SECONDS),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 01 Mar 2026 23:00:00 GMT", LONGEST_RETRY_AFTER_SECONDS),
        ("Sun, 01 Foo 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_within_a_bound(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW) == seconds


def test_a_signature_is_what_the_standard_verifies_by_any_of_the_secrets() -> None:
    old, new, other = make_secret(), make_secret(), make_secret()
    body = json.dumps({"text": "é"}, ensure_ascii=False).encode()
    identity = uuid.uuid4()
    keys = signing_keys(f"{new}, {old}")
    headers = signed_headers(identity, body, keys, datetime.now(UTC).astimezone())
    assert headers["webhook-id"] == str(identity)
    for secret in (old, new):
        assert Webhook(secret).verify(body, headers) == {"text": "é"}
    with pytest.raises(WebhookVerificationError, match="No matching"):
        Webhook(other).verify(body, headers)
    with pytest.raises(WebhookVerificationError, match="No matching"):
        Webhook(new).verify(body + b" ", headers)
    late = signed_headers(identity, body, keys, datetime.now(UTC) - timedelta(minutes=6))
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(new).verify(body, late)


def test_without_a_secret_a_callback_has_its_id_and_no_signature() -> None:
    for nothing in ("", " ", "off", "OFF"):
        headers = signed_headers(uuid.uuid4(), b"{}", signing_keys(nothing), NOW)
        assert headers.keys() == {"webhook-id", "webhook-timestamp"}


@pytest.mark.parametrize(
    "secret",
    [
        "plain",
        ",",
        "whsec_",
        "whsec_!!!!",
        "whsec_é",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        pytest.param(make_secret() + " plain", id="with more"),
        pytest.param(make_secret().removeprefix("whsec_"), id="without whsec_"),
    ],
)
def test_a_wrong_secret_stops_the_start_in_one_line_without_showing_it(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LG_WEBHOOK_SIGNING_SECRET", secret)
    settings.cache_clear()
    try:
        with pytest.raises(EngineError, match=r"^[^\n]*LG_WEBHOOK_SIGNING_SECRET: must be whsec_") as caught:
            settings()
    finally:
        settings.cache_clear()
    assert len(secret) < 8 or secret not in str(caught.value)
