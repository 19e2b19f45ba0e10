"""Asks the callback receiver whether the callback of a run has arrived and been verified."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import AnyHttpUrl, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from sdk_client.errors import ConfigurationError, PlatformUnavailableError

RUNS_PATH = "/callbacks/runs"
POLL_SECONDS = 0.2
REFUSED = (401, 403)
VERIFIED_STATES = ("verified", "handled")


class ReceiverSettings(BaseSettings):
    """Where the receiver is and its bearer token, from the environment or `.env`."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    url: AnyHttpUrl = Field(alias="CALLBACKS_URL")
    """The receiver's address as this machine reaches it."""
    token: SecretStr = Field(alias="LG_WEBHOOK_TOKEN")
    """The bearer token that the server sends with each webhook and the receiver demands."""
    webhook_url: AnyHttpUrl | None = Field(default=None, alias="HOLDFAST_WEBHOOK_URL")
    """Where the server reaches the receiver, if not under CALLBACKS_URL (another network, say)."""

    @classmethod
    def from_env(cls) -> ReceiverSettings:
        """Read the environment.

        Raises:
            ConfigurationError: A variable is missing or wrong; names it, never its value.
        """
        try:
            return cls()  # type: ignore[call-arg]
        except ValidationError as error:
            names = ", ".join(str(problem["loc"][0]) for problem in error.errors())
            raise ConfigurationError(
                f"the callback receiver is not known: set {names} in the environment or .env "
                "(`make run` sets both)"
            ) from error


class NoCallbackError(Exception):
    """The callback has not been received and verified in time; the message says what was seen instead."""


class Receiver:
    """The receiver's inbox, read over HTTP."""

    def __init__(self, settings: ReceiverSettings) -> None:
        """Set up the client; nothing is sent yet."""
        self._inbox_url = f"{str(settings.url).rstrip('/')}{RUNS_PATH}"
        self.webhook_url = str(settings.webhook_url or self._inbox_url)
        self._http = httpx.AsyncClient(
            headers={"authorization": f"Bearer {settings.token.get_secret_value()}"},
            timeout=5.0,
            # Whom the client trusts, also by SSL_CERT_FILE.
            verify=httpx.create_ssl_context(),
            trust_env=False,  # a proxy for the internet has no business between us and the receiver
        )

    async def __aenter__(self) -> Self:
        """Return the receiver itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def check(self) -> None:
        """See that the receiver answers and takes the token, before anything is run for it to hear of.

        Raises:
            PlatformUnavailableError: It does not answer, or cannot reach its database.
            ConfigurationError: It refuses the token.
        """
        try:
            answer = await self._http.get(self._inbox_url, params={"limit": 1})
        except httpx.TransportError as error:
            raise PlatformUnavailableError(self._silent(error)) from error
        if answer.status_code in REFUSED:
            raise ConfigurationError(self._refused(answer))
        if answer.is_error:
            raise PlatformUnavailableError(
                f"the receiver at {self._inbox_url} is not ready (HTTP {answer.status_code}); see its log"
            )

    async def wait_for(self, run_id: str, *, deadline_seconds: float) -> dict[str, Any]:
        """Wait until the inbox holds a verified row of this run, however long ago it came; return that row.

        Raises:
            NoCallbackError: There is none when the deadline passes, or the token is refused.
        """
        until = time.monotonic() + deadline_seconds
        while True:
            row, seen = await self._look(run_id)
            if row is not None:
                return row
            if time.monotonic() >= until:
                raise NoCallbackError(f"none verified within {deadline_seconds:g} s: {seen}")
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self, run_id: str) -> tuple[dict[str, Any] | None, str]:
        """The verified row, or what there was in its place."""
        try:
            answer = await self._http.get(f"{self._inbox_url}/{run_id}")
        except httpx.TransportError as error:
            return None, self._silent(error)
        if answer.status_code in REFUSED:
            raise NoCallbackError(self._refused(answer))
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None, "the server has not called the receiver"
        if answer.status_code != httpx.codes.OK:
            return None, f"the receiver answered HTTP {answer.status_code}"
        return _verified(answer)

    def _silent(self, error: httpx.TransportError) -> str:
        return f"the receiver at {self._inbox_url} does not answer ({type(error).__name__})"

    def _refused(self, answer: httpx.Response) -> str:
        return (
            f"the receiver at {self._inbox_url} refuses LG_WEBHOOK_TOKEN (HTTP {answer.status_code}); "
            "it must be started with the same one"
        )


def _verified(answer: httpx.Response) -> tuple[dict[str, Any] | None, str]:
    try:
        rows = [dict(row) for row in answer.json()["callbacks"]]
        for row in rows:
            if row["state"] in VERIFIED_STATES:
                return row, ""
        last = rows[-1]
        return (
            None,
            f"it is in the inbox, not verified yet ({last['state']}; {last['last_error'] or 'no error'})",
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        return None, f"the receiver's answer was not understood ({type(error).__name__}: {error})"
