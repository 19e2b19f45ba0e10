"""The one way to the server: our own httpx client, one retry policy, one place that names errors.

The SDK's default transport retries connects five times by itself, which would multiply every policy above
it, and its streams reconnect in a way of their own; so it is given a client whose transport never retries.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any, TypeVar

import httpx
import orjson
from langgraph_sdk.client import LangGraphClient

from sdk_client.errors import (
    AuthenticationError,
    ConfigurationError,
    HoldfastError,
    NotFoundError,
    PlatformUnavailableError,
    RefusedError,
    ThreadBusyError,
)
from sdk_client.retry import GaveUpError, RetryPolicy, call_with_retries, is_transient, status_of
from sdk_client.tracing import carry
from sdk_client.turns import Turns

T = TypeVar("T")

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0
"""The server sends a heartbeat every 5 s on a long poll or a stream."""

# Connections that are held open, by joins and streams, come from a pool of their own: however many wait,
# creates and reads go through. A join beyond those that fit asks for the run's status now and then instead.
_HELD = httpx.Limits(max_connections=300, max_keepalive_connections=20)
_BRIEF = httpx.Limits(max_connections=100, max_keepalive_connections=20)
_LONG_POLLS_AT_ONCE = 100
# Calls and submissions at once, together no more than there are brief connections. Who has to queue does so
# before the clock of the deadline starts, so a busy client never takes itself for a server that is away.
_CALLS_AT_ONCE = 64
_SUBMISSIONS_AT_ONCE = 32

_LONGEST_DETAIL = 500
_BUSY = ("already running", "in-flight runs")
"""What a server says of a thread that a run works on: to a new run, and to an update of its state."""


class Transport:
    """The HTTP client, the SDK on top of it, and calls with retries."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        retry: RetryPolicy | None = None,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        """Build the client; nothing is sent yet.

        A caller's `http_client` is used as it is, and not closed.
        """
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"The server's address is not a URL: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ConfigurationError(
                "The server's address must start with http:// or https:// and name a host."
            )
        if parsed.userinfo:
            # A URL ends up in logs and error messages.
            raise ConfigurationError("The server's address must not hold a password; use HOLDFAST_API_KEY.")
        self.address = str(parsed).rstrip("/")
        """Named where the server does not answer."""
        self.policy = retry or RetryPolicy()
        self._owned = http_client is None

        def connect(limits: httpx.Limits) -> httpx.AsyncClient:
            return httpx.AsyncClient(
                base_url=parsed,
                transport=httpx.AsyncHTTPTransport(retries=0, limits=limits),
                timeout=httpx.Timeout(read_timeout_seconds, connect=connect_timeout_seconds, pool=None),
                headers={
                    "user-agent": f"holdfast/{version('holdfast-client')}",
                    **({"x-api-key": api_key} if api_key else {}),
                },
                event_hooks={"request": [carry]},
            )

        self.http = http_client or connect(_BRIEF)
        self.held = http_client or connect(_HELD)
        """For requests that stay open until a run ends."""
        self.long_polls = Turns(_LONG_POLLS_AT_ONCE)
        """Taken for each long poll; the rest of `held` is for streams."""
        self.sdk = LangGraphClient(self.http)
        self.submissions = Turns(_SUBMISSIONS_AT_ONCE)
        """Taken by whoever creates runs, before the deadline begins."""
        self._calls = Turns(_CALLS_AT_ONCE)

    async def aclose(self) -> None:
        """Close the connections, unless the HTTP client is the caller's."""
        if self._owned:
            await self.http.aclose()
            await self.held.aclose()

    async def call(
        self,
        what: str,
        operation: Callable[[], Awaitable[T]],
        *,
        run_id: str | None = None,
        thread_id: str | None = None,
        request_id: str | None = None,
        deadline_seconds: float | None = None,
        holds_open: bool = False,
    ) -> T:
        """Make a read or an idempotent write, retried by the policy.

        Args:
            what: The call in words, for the error's message ("read the run").
            operation: Makes one attempt.
            run_id: Named in the error.
            thread_id: Named in the error.
            request_id: Named in the error.
            deadline_seconds: Another deadline than the policy's; `math.inf` for none.
            holds_open: It waits on a connection of `held`, and so takes no turn among the brief calls.

        Raises:
            HoldfastError: See `explain`.
        """
        try:
            return await call_with_retries(
                operation,
                self.policy,
                deadline_seconds=deadline_seconds,
                turns=None if holds_open else self._calls,
            )
        except GaveUpError as gave_up:
            cause = gave_up.cause
            if isinstance(cause, HoldfastError):
                raise cause from None
            raise self.explain(
                what,
                cause,
                run_id=run_id,
                thread_id=thread_id,
                request_id=request_id,
                attempts=gave_up.attempts,
            ) from cause

    def explain(self, what: str, cause: Exception, **ids: Any) -> HoldfastError:
        """Turn an error of the SDK or of httpx into the one the caller can act on.

        Returns:
            AuthenticationError, NotFoundError, ThreadBusyError or RefusedError for a 4xx,
            PlatformUnavailableError for faults, HoldfastError for what should not happen.
        """
        status = status_of(cause)
        detail = _detail(cause)
        if status is None or status >= 500 or is_transient(cause):
            if not (is_transient(cause) or isinstance(cause, TimeoutError) or status is not None):
                return HoldfastError(f"Could not {what}: {type(cause).__name__}: {detail}", **ids)
            seen = f"HTTP {status}" if status else type(cause).__name__
            return PlatformUnavailableError(
                f"Could not {what}: the server at {self.address} is not answering ({seen}: {detail})", **ids
            )
        if status in (401, 403):
            return AuthenticationError(
                f"Could not {what}: HTTP {status}: {detail.rstrip('.')}. Check HOLDFAST_API_KEY.",
                status_code=status,
                **ids,
            )
        if status == 404:
            return NotFoundError(f"Could not {what}: {detail}", status_code=status, **ids)
        if status == 409 and any(words in detail for words in _BUSY):
            return ThreadBusyError(f"Could not {what}: {detail}", **ids)
        return RefusedError(f"Could not {what}: HTTP {status}: {detail}", status_code=status, **ids)

    async def post_dated(self, path: str, json: Mapping[str, Any]) -> tuple[dict[str, Any], datetime]:
        """Make one POST attempt and return the answer with the server's own time of answering."""
        answered_at = datetime.now(UTC)  # only for a server that sends no Date

        def note_date(response: httpx.Response) -> None:
            nonlocal answered_at
            if date := response.headers.get("date"):
                answered_at = parsedate_to_datetime(date)

        body: dict[str, Any] = await self.sdk.http.post(path, json=dict(json), on_response=note_date)
        return body, answered_at


def _detail(cause: Exception) -> str:
    """Say what the server gave as the reason, in one bounded line."""
    text = str(cause)
    if isinstance(cause, httpx.HTTPStatusError):
        text = _reason_in(cause.response) or cause.response.reason_phrase
    if isinstance(cause, TimeoutError) and not text:
        text = "the deadline passed"
    return " ".join((text or type(cause).__name__).split())[:_LONGEST_DETAIL]


def _reason_in(response: httpx.Response) -> str:
    try:
        body = orjson.loads(response.content)
    except (orjson.JSONDecodeError, httpx.ResponseNotRead):
        return ""
    return str(body.get("detail", "")) if isinstance(body, dict) else ""
