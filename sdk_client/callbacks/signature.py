"""Is a webhook from who knows the signing secret, and of now? As Standard Webhooks has it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Final

from standardwebhooks import Webhook, WebhookVerificationError

from sdk_client.callbacks.notification import RejectedError

OFF: Final = "off"
_PREFIX: Final = "whsec_"
_SHORTEST_KEY_BYTES: Final = 24
_LONGEST_KEY_BYTES: Final = 64
_CURE: Final = (
    f"must be {_PREFIX} and then the base64 of {_SHORTEST_KEY_BYTES} to {_LONGEST_KEY_BYTES} random bytes "
    f'(make one: echo "{_PREFIX}$(openssl rand -base64 32)"), several of them with spaces or commas between, '
    f'or "{OFF}"'
)
_UNREADABLE: Final = "the headers of the signature, or the body, cannot be read"
_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")
_LONGEST_HEADER: Final = 2000


class SignatureCheck:
    """Checks the signature of webhooks, where there is a secret; any of several is enough."""

    def __init__(self, secrets: str) -> None:
        """Take the secrets as LG_WEBHOOK_SIGNING_SECRET has them.

        Raises:
            ValueError: see `signing_keys`.
        """
        self._webhooks = [Webhook(key) for key in signing_keys(secrets)]

    def check(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Refuse what is not signed as it must be; returns the webhook's id if it has one.

        Args:
            headers: of the request, with lower-case names.
            body: exactly as it came.

        Raises:
            RejectedError: 401, a header is missing, the signature is not ours, or it is more than five
                minutes old or ahead; 422, the id of an unsigned webhook is none.
        """
        if self._webhooks:
            self._verify(headers, body)
        webhook_id = headers.get("webhook-id")
        if webhook_id is not None and re.fullmatch(r"[!-~]{1,200}", webhook_id) is None:
            raise RejectedError(422, "webhook-id must have 1 to 200 printable ASCII characters")
        return webhook_id

    def _verify(self, headers: Mapping[str, str], body: bytes) -> None:
        given = {name: headers.get(name, "") for name in _HEADERS}
        if missing := [name for name, value in given.items() if not value]:
            raise RejectedError(
                401,
                f"the webhook is not signed ({', '.join(missing)} missing): set LG_WEBHOOK_SIGNING_SECRET "
                f'for the server too, or to "{OFF}" here if the server cannot sign',
            )
        if any(len(value) > _LONGEST_HEADER for value in given.values()):
            raise RejectedError(401, "the headers of the signature are too long")
        faults = [fault for webhook in self._webhooks if (fault := _fault(webhook, given, body))]
        if len(faults) == len(self._webhooks):
            raise RejectedError(401, faults[0])


def _fault(webhook: Webhook, given: dict[str, str], body: bytes) -> str | None:
    try:
        webhook.verify(body, given, json_parse=False)
    except WebhookVerificationError as error:
        if "Invalid" in str(error):
            return _UNREADABLE
        if "timestamp" in str(error):
            return "it was signed more than five minutes ago or ahead: sign it anew, and check both clocks"
        return (
            "the signature was not made with LG_WEBHOOK_SIGNING_SECRET: the server and this receiver must "
            "have the same one, and nothing in between may change the body"
        )
    except ValueError:  # no comma, no base64, no UTF-8
        return _UNREADABLE
    return None


def signing_keys(secrets: str) -> list[bytes]:
    """Read the keys out of LG_WEBHOOK_SIGNING_SECRET; none if it is empty or "off".

    Raises:
        ValueError: one of them is no such secret; says what one looks like, and shows nothing of it.
    """
    if secrets.strip().lower() in ("", OFF):
        return []
    return [_key(secret) for secret in re.split(r"[\s,]+", secrets.strip(" \t\r\n,"))]


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not (secret.startswith(_PREFIX) and _SHORTEST_KEY_BYTES <= len(key) <= _LONGEST_KEY_BYTES):
        raise ValueError(_CURE)
    return key
