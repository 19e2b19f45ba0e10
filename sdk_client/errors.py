"""What can go wrong, one class for each thing a caller does differently about it.

    HoldfastError
    ├── ConfigurationError            the environment or an argument is missing or wrong
    ├── RefusedError                  the server understood and said no (4xx); asking again will not help
    │   ├── AuthenticationError       401, 403
    │   └── NotFoundError             404
    ├── ThreadBusyError               another run holds the thread (multitask strategy "reject")
    ├── AlreadyDecidedError           somebody else has decided on this pause
    ├── PlatformUnavailableError      faults until the retry policy ran out; this call left nothing running
    ├── OutcomeUnknownError           a create whose fate could not be learnt; ask again with its request_id
    ├── DeadlineExceededError         the wait is over, the run is not; join it again
    ├── ApprovalNeededError           the run paused for a human
    └── RunFailedError                the run ended in error
        ├── RunTimedOutError
        └── RunCancelledError

Every one carries the ids by which the work can be found again, and chains its cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdk_client.pauses import Approval


class HoldfastError(Exception):
    """The root of everything `sdk_client` raises on purpose."""

    def __init__(
        self,
        message: str,
        *,
        run_id: str | None = None,
        thread_id: str | None = None,
        request_id: str | None = None,
        attempts: int | None = None,
    ) -> None:
        """Keep the message (cause and cure, one line) and the ids of the work it is about."""
        super().__init__(message)
        self.message = message
        self.run_id = run_id
        self.thread_id = thread_id
        self.request_id = request_id
        self.attempts = attempts

    def __str__(self) -> str:
        """Show the message and every id that is known."""
        known = {
            "run_id": self.run_id,
            "thread_id": self.thread_id,
            "request_id": self.request_id,
            "attempts": self.attempts,
        }
        shown = ", ".join(f"{name}={value}" for name, value in known.items() if value is not None)
        return f"{self.message} ({shown})" if shown else self.message


class ConfigurationError(HoldfastError):
    """A setting or an argument is missing or wrong; nothing was sent."""


class RefusedError(HoldfastError):
    """The server (or this client, before asking it) said no; the same call would be refused again.

    `status_code` is None where the client itself refused.
    """

    def __init__(self, message: str, *, status_code: int | None = None, **ids: Any) -> None:
        """Take the HTTP status beside the ids of HoldfastError."""
        super().__init__(message, **ids)
        self.status_code = status_code


class AuthenticationError(RefusedError):
    """The key is missing or wrong (401), or it may not do this (403)."""


class NotFoundError(RefusedError):
    """No such assistant, thread or run, or not one this key may see (404)."""


class ThreadBusyError(HoldfastError):
    """The thread has a run in flight and this one was to be rejected in that case."""


class AlreadyDecidedError(HoldfastError):
    """This pause has had its decision; the one attempted now was not applied.

    `decision` is approve, edit, reject or respond; `decided_at` is ISO 8601 by the decider's clock. `run_id`
    is the run that carried the decision out, None if it needed none.
    """

    def __init__(self, message: str, *, decision: str, decided_by: str, decided_at: str, **ids: Any) -> None:
        """Take who decided what, and when, beside the ids of HoldfastError."""
        super().__init__(message, **ids)
        self.decision = decision
        self.decided_by = decided_by
        self.decided_at = decided_at


class PlatformUnavailableError(HoldfastError):
    """Transport faults, 5xx or 429 for as long as the retry policy allowed; worth trying again later."""


class OutcomeUnknownError(HoldfastError):
    """A create may or may not have reached the server, and the server could not be asked.

    Calling again with the same `request_id` finds the run if it exists and creates it if it does not.
    """


class DeadlineExceededError(HoldfastError):
    """The deadline of the wait has passed while the run goes on. The run is not lost: join it by its ids."""


class ApprovalNeededError(HoldfastError):
    """The run paused and waits for a human.

    `approvals` are the pauses to decide on (`client.approvals`), `values` the thread's state at the pause.
    """

    def __init__(
        self, message: str, *, approvals: Sequence[Approval], values: Mapping[str, Any], **ids: Any
    ) -> None:
        """Take the pauses and the state beside the ids of HoldfastError."""
        super().__init__(message, **ids)
        self.approvals = tuple(approvals)
        self.values = dict(values)


class RunFailedError(HoldfastError):
    """The run ended without an answer.

    `status` is the run's own (error, timeout, interrupted); `error_type` and `error_message` are what the
    graph raised, where the server still knows it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: str,
        error_type: str | None = None,
        error_message: str | None = None,
        **ids: Any,
    ) -> None:
        """Take the run's status and the graph's error beside the ids of HoldfastError."""
        super().__init__(message, **ids)
        self.status = status
        self.error_type = error_type
        self.error_message = error_message


class RunTimedOutError(RunFailedError):
    """The server stopped the run at its time limit."""


class RunCancelledError(RunFailedError):
    """Somebody cancelled the run, or a later run on the thread displaced it."""
