"""One attempt to deliver a callback: a POST, and what its outcome means."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import httpx
from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.ops.encryption import using_custom_encryption
from langgraph_runtime_holdfast.outbox.message import body_to_send
from langgraph_runtime_holdfast.outbox.rows import Claim
from langgraph_runtime_holdfast.outbox.schedule import retry_after_seconds
from langgraph_runtime_holdfast.outbox.signing import signed_headers, signing_keys
from langgraph_runtime_holdfast.settings import settings

_CONNECT_SECONDS: Final = 5.0
_MOST_REDIRECTS: Final = 5
# Those that repeat the request. After another the callback would be lost in a GET without a body.
_REPEATING_REDIRECTS: Final = frozenset({HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT})
# What a slow receiver takes of a large body.
_BYTES_A_SECOND: Final = 1_000_000
_READ_BYTES: Final = 4096
_READ_SECONDS: Final = 2.0
_SHOWN_CHARACTERS: Final = 200
_TIMED: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
# What the policy says when a name cannot be looked up just now, which is no verdict on the URL.
_NO_ADDRESS: Final = "DNS resolution"
_CANNOT_BE_SENT: Final = (httpx.InvalidURL, httpx.UnsupportedProtocol)


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt."""

    status: int | None = None
    error: str | None = None
    """None: delivered."""
    retry_after_seconds: float | None = None
    """When the receiver wants it again."""
    is_final: bool = False
    """It makes no sense to try again."""


class Poster:
    """Sends callbacks under the stock server's policy for webhooks."""

    def __init__(self) -> None:
        """Open nothing yet."""
        from langgraph_api.config import WEBHOOKS_CONFIG
        from langgraph_api.lc_security import ssrf_safe_async_client
        from langgraph_api.webhook import _get_webhook_config

        # Not the stock server's own client, which repeats requests and follows every redirect by itself.
        self._outside: httpx.AsyncClient = ssrf_safe_async_client(
            policy=_get_webhook_config().base_ssrf_policy,
            retries=0,
            limits=httpx.Limits(max_keepalive_connections=20, keepalive_expiry=60.0),
            follow_redirects=False,
        )
        self._headers = dict((WEBHOOKS_CONFIG.get("headers") if WEBHOOKS_CONFIG else None) or {})
        self._keys = signing_keys(settings().webhook_signing_secret.get_secret_value())

    async def close(self) -> None:
        """Close the connections."""
        await self._outside.aclose()

    async def post(self, claimed: Claim, body: bytes) -> Outcome:
        """Try to deliver it once, within the time that an attempt has, which grows with its size."""
        from langgraph_api.lc_security import SSRFBlockedError

        limit = _limit_seconds(claimed)
        try:
            async with asyncio.timeout(limit):
                return await self._post(claimed, body)
        except TimeoutError:
            return Outcome(error=f"no answer within {limit:g} s")
        except (_RefusedError, SSRFBlockedError) as error:
            reason = str(error)
            return Outcome(error=f"the URL is refused: {reason}", is_final=_NO_ADDRESS not in reason)
        except _CANNOT_BE_SENT as error:
            return Outcome(error=_told(error), is_final=True)
        except (httpx.HTTPError, OSError, ValueError) as error:
            return Outcome(error=_told(error))

    async def _post(self, claimed: Claim, stored: bytes) -> Outcome:
        await _check_policy(claimed.url)
        now = datetime.now(UTC)
        body = await body_to_send(stored, is_sealed=claimed.is_sealed, now=now)
        # To hash tens of megabytes takes a tenth of a second; meanwhile the loop goes on.
        own = await asyncio.to_thread(signed_headers, claimed.id, body, self._keys, now)
        headers = httpx.Headers({"content-type": "application/json", "accept-encoding": "identity"})
        headers.update(self._headers)
        headers.update(own)  # last: what langgraph.json sets must not pass for a signature
        client = self._client(claimed.url)
        request = client.build_request(
            "POST",
            claimed.url,
            content=body,
            headers=headers,
            timeout=httpx.Timeout(_limit_seconds(claimed), connect=_CONNECT_SECONDS),
        )
        for _ in range(_MOST_REDIRECTS + 1):
            response = await client.send(request, stream=True)
            try:
                onward = response.next_request
                if response.status_code not in _REPEATING_REDIRECTS or onward is None:
                    return await _judge(response)
            finally:
                await response.aclose()
            await _check_policy(str(onward.url))
            # The policy's transport builds a request of its own, from a body that has been read.
            await onward.aread()
            request = onward
        return Outcome(response.status_code, f"more than {_MOST_REDIRECTS} redirects")

    def _client(self, url: str) -> httpx.AsyncClient:
        if not url.startswith("/"):
            return self._outside
        from langgraph_api.http import get_loopback_client

        inside: httpx.AsyncClient = get_loopback_client().client
        return inside


class _RefusedError(Exception):
    """The policy for webhooks refuses this URL."""


def _limit_seconds(claimed: Claim) -> float:
    return settings().callback_timeout_seconds + claimed.size_bytes / _BYTES_A_SECOND


async def _check_policy(url: str) -> None:
    """Ask the stock server's policy again: it may be another since the run was created, and names move."""
    from langgraph_api.webhook import validate_webhook_url_or_raise

    try:
        await validate_webhook_url_or_raise(url)
    except HTTPException as error:
        raise _RefusedError(str(error.detail)) from error


async def _judge(response: httpx.Response) -> Outcome:
    status = response.status_code
    text = await _begin_of_text(response)
    if using_custom_encryption():
        # It may repeat what it was sent, and is kept as it is.
        text = ""
    if response.is_success:
        return Outcome(status)
    error = f"HTTP {status}" + (f": {text}" if text else "")
    if status == HTTPStatus.GONE:
        return Outcome(status, f"{error} (the receiver wants no more)", is_final=True)
    wanted = response.headers.get("retry-after") if status in _TIMED else None
    return Outcome(status, error, retry_after_seconds(wanted, datetime.now(UTC)))


async def _begin_of_text(response: httpx.Response) -> str:
    """What the receiver says, as far as it is short and quick; reading it also frees the connection."""
    read = b""
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for chunk in response.aiter_raw():
                read += chunk[:_READ_BYTES]
                if len(read) >= _READ_BYTES:
                    break
    except (TimeoutError, httpx.HTTPError) as error:
        # The status has been read: the outcome is known.
        return f"({_told(error)})"
    return _one_line(read.decode(errors="replace"))


def _told(error: BaseException) -> str:
    return _one_line(f"{type(error).__name__}: {error}")


def _one_line(text: str) -> str:
    # Postgres takes no NUL in text.
    return " ".join(text.replace("\x00", "\ufffd").split())[:_SHOWN_CHARACTERS]
