"""What a handler is given, and how the one that the environment names is found."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from sdk_client.errors import ConfigurationError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunEvent:
    """A run that ended or paused, as the server itself says, not as the webhook claimed."""

    run_id: str
    thread_id: str
    status: str
    """The run's own status: success, error, timeout or interrupted."""
    awaits_approval: bool
    """The run succeeded up to a pause: its thread waits for a human (a pause is reported as success)."""
    reported_status: str
    received_at: datetime
    verified_at: datetime


RunHandler = Callable[[RunEvent], Awaitable[None]]
"""Called at least once for each event, so it must bear being called twice; after an exception, again."""


async def log_event(event: RunEvent) -> None:
    """The default handler: one line in the log."""
    logger.info(
        "run ended run_id=%s thread_id=%s status=%s%s",
        event.run_id,
        event.thread_id,
        event.status,
        " awaits_approval" if event.awaits_approval else "",
    )


def load_handler(reference: str | None) -> RunHandler:
    """Import the async function that `module:function` names; without a reference, `log_event`.

    Raises:
        ConfigurationError: it cannot be imported or is no async function.
    """
    if reference is None:
        return log_event
    module_name, _, function_name = reference.partition(":")
    if not module_name or not function_name:
        raise ConfigurationError(f"CALLBACKS_HANDLER is {reference!r}: write it as module:function")
    try:
        handler = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # a handler's module may fail in any way while it is imported
        raise ConfigurationError(
            f"CALLBACKS_HANDLER {reference!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    call = getattr(handler, "__call__", None)  # noqa: B004 - an object with an async __call__ will do as well
    if not inspect.iscoroutinefunction(handler) and not inspect.iscoroutinefunction(call):
        raise ConfigurationError(f"CALLBACKS_HANDLER {reference!r} must be an async function of one event")
    found: RunHandler = handler
    return found
