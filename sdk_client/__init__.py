"""The client that loses no run and doubles none.

async with Client.from_env() as client:
    result = await client.run("support", {"messages": [...]}, conversation_id="ticket-17")
"""

from sdk_client.client import Client
from sdk_client.decisions import Decision
from sdk_client.errors import (
    AlreadyDecidedError,
    ApprovalNeededError,
    AuthenticationError,
    ConfigurationError,
    DeadlineExceededError,
    HoldfastError,
    NotFoundError,
    OutcomeUnknownError,
    PlatformUnavailableError,
    RefusedError,
    RunCancelledError,
    RunFailedError,
    RunTimedOutError,
    ThreadBusyError,
)
from sdk_client.identity import new_request_id, thread_id_for
from sdk_client.models import RunHandle, RunResult, StreamEvent, StreamGap
from sdk_client.pauses import Action, Approval, DecisionType
from sdk_client.retry import RetryPolicy
from sdk_client.settings import ClientSettings
from sdk_client.threads import ThreadReport

__all__ = [
    "Action",
    "AlreadyDecidedError",
    "Approval",
    "ApprovalNeededError",
    "AuthenticationError",
    "Client",
    "ClientSettings",
    "ConfigurationError",
    "DeadlineExceededError",
    "Decision",
    "DecisionType",
    "HoldfastError",
    "NotFoundError",
    "OutcomeUnknownError",
    "PlatformUnavailableError",
    "RefusedError",
    "RetryPolicy",
    "RunCancelledError",
    "RunFailedError",
    "RunHandle",
    "RunResult",
    "RunTimedOutError",
    "StreamEvent",
    "StreamGap",
    "ThreadBusyError",
    "ThreadReport",
    "new_request_id",
    "thread_id_for",
]
