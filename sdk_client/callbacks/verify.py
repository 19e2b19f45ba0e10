"""Asks the server what became of a run, since a webhook's body can be forged, early or old."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from sdk_client.callbacks.settings import CallbackSettings
from sdk_client.errors import HoldfastError, NotFoundError
from sdk_client.retry import RetryPolicy
from sdk_client.transport import Transport

_UNFINISHED: Final = ("pending", "running")


class UnreadableRunError(Exception):
    """The server could not be asked, or the run has not ended yet; try again later."""


@dataclass(frozen=True)
class RunReading:
    """What the server says about a run that ended."""

    status: str
    awaits_approval: bool


class RunReader:
    """Reads runs while it is entered as an async context manager."""

    def __init__(self, settings: CallbackSettings) -> None:
        """Name the server; nothing is sent yet."""
        self._transport = Transport(
            settings.server_url,
            api_key=settings.api_key.get_secret_value() if settings.api_key else None,
            # Few attempts: the inbox itself tries again, and for ever.
            retry=RetryPolicy(attempts=2, deadline_seconds=settings.verify_timeout_seconds),
        )

    async def __aenter__(self) -> Self:
        """Return the reader itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def read(self, thread_id: str, run_id: str) -> RunReading | None:
        """Read a run's own status, and whether its thread waits for a human; None if there is no such run.

        Raises:
            UnreadableRunError: see there.
        """
        if (reading := await self._read_if_there(thread_id, run_id)) is not None:
            return reading
        await self._confirm_server()
        # Once more: the server may have come only after a proxy had said no for it.
        return await self._read_if_there(thread_id, run_id)

    async def _read_if_there(self, thread_id: str, run_id: str) -> RunReading | None:
        try:
            return await self._read(thread_id, run_id)
        except NotFoundError:
            return None
        except HoldfastError as error:
            raise UnreadableRunError(str(error)) from error

    async def _read(self, thread_id: str, run_id: str) -> RunReading:
        sdk = self._transport.sdk
        run = await self._transport.call("read the run", lambda: sdk.runs.get(thread_id, run_id))
        status: object = run.get("status") if isinstance(run, dict) else None
        if not isinstance(status, str):
            raise UnreadableRunError("the answer is not a run: check HOLDFAST_URL")
        if status in _UNFINISHED:
            raise UnreadableRunError(f"the run is still {status}")
        if status != "success":
            return RunReading(status=status, awaits_approval=False)
        # A pause for a human is reported as success; only the thread tells the difference.
        thread = await self._transport.call("read the thread", lambda: sdk.threads.get(thread_id))
        return RunReading(status=status, awaits_approval=thread["status"] == "interrupted")

    async def _confirm_server(self) -> None:
        """Make sure that "not found" came from the server and not from a proxy without one behind it."""
        try:
            answer: object = await self._transport.call(
                "ask the server for its health", lambda: self._transport.sdk.http.get("/ok")
            )
        except HoldfastError as error:
            raise UnreadableRunError(f"no LangGraph server at HOLDFAST_URL: {error}") from error
        if not isinstance(answer, dict) or answer.get("ok") is not True:
            raise UnreadableRunError("no LangGraph server at HOLDFAST_URL: GET /ok does not say ok")
