"""Signatures of callbacks, as Standard Webhooks has them."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from standardwebhooks import Webhook

OFF: Final = "off"
_PREFIX: Final = "whsec_"
_SHORTEST_KEY_BYTES: Final = 24
_LONGEST_KEY_BYTES: Final = 64
_CURE: Final = (
    f"must be {_PREFIX} and then the base64 of {_SHORTEST_KEY_BYTES} to {_LONGEST_KEY_BYTES} random bytes "
    f'(make one: echo "{_PREFIX}$(openssl rand -base64 32)"), several of them with spaces or commas between, '
    f'or "{OFF}"'
)


def signing_keys(text: str) -> list[bytes]:
    """Read the keys out of LG_WEBHOOK_SIGNING_SECRET; none if it is empty or "off".

    Raises:
        ValueError: One of them is no such secret; says what one looks like, and shows nothing of it.
    """
    if text.strip().lower() in ("", OFF):
        return []
    return [_key(secret) for secret in re.split(r"[\s,]+", text.strip(" \t\r\n,"))]


def make_secret() -> str:
    """Make a new secret."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not (secret.startswith(_PREFIX) and _SHORTEST_KEY_BYTES <= len(key) <= _LONGEST_KEY_BYTES):
        raise ValueError(_CURE)
    return key


def signed_headers(callback_id: UUID, body: bytes, keys: Sequence[bytes], now: datetime) -> dict[str, str]:
    """The headers that identify a callback, and prove where it is from if there are keys.

    Args:
        callback_id: The same at every attempt.
        body: Exactly what is sent.
        keys: One signature each, so that the receiver may know any of them.
        now: Of this attempt; receivers refuse what is minutes old.
    """
    identity = str(callback_id)
    headers = {"webhook-id": identity, "webhook-timestamp": str(int(now.timestamp()))}
    if keys:
        # The library takes the time for UTC whatever zone it has.
        at, text = now.astimezone(UTC), body.decode()
        headers["webhook-signature"] = " ".join(Webhook(key).sign(identity, at, text) for key in keys)
    return headers
