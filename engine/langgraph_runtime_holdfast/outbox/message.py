"""What a callback says: the body that the stock server would send, built when its run ends."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from langgraph_runtime_holdfast.ops.encryption import decrypted, encrypted, using_custom_encryption
from langgraph_runtime_holdfast.ops.lease import Lease

logger = structlog.stdlib.get_logger(__name__)

HERE: Final = "(this server)"
"""The host of a URL that is only a path."""
_SENT_AT: Final = "webhook_sent_at"
# Under these names the deployment's own `encryption` sees a body: as a thread's values, which it holds too.
_SEALED_AS: Final = ("thread", "values")


@dataclass(frozen=True)
class Message:
    """What goes into the outbox for one run."""

    url: str
    host: str
    body: bytes
    is_sealed: bool


async def make_message(
    lease: Lease, status: str, checkpoint: Mapping[str, Any] | None, exception: BaseException | None
) -> Message | None:
    """Build the callback of a run that ends; None if it has no webhook, or webhooks are disabled.

    Args:
        lease: Of the run, by its worker.
        status: What the run has become.
        checkpoint: The state in which it ended.
        exception: Why it ended, if not by itself.
    """
    url = lease.webhook
    if not url or not webhooks_are_on():
        return None
    # Its worker has all of it in plain text but this.
    lease.run = await decrypted(lease.run, "run", ["metadata"])
    payload = _payload(lease, status, checkpoint, exception)
    is_sealed = using_custom_encryption()
    return Message(url, host_of(url), await _sealed(payload) if is_sealed else _dumped(payload), is_sealed)


def webhooks_are_on() -> bool:
    """Whether langgraph.json leaves webhooks on (`http.disable_webhooks`)."""
    from langgraph_api.config import HTTP_CONFIG

    return not (HTTP_CONFIG and HTTP_CONFIG.get("disable_webhooks"))


async def body_to_send(stored: bytes, *, is_sealed: bool, now: datetime) -> bytes:
    """The body as it goes out now: opened, with the time of this attempt.

    Raises:
        ValueError: It was sealed by an encryption that langgraph.json does not name any more.
    """
    if is_sealed:
        stored = await _unsealed(stored)
    if (allowed := _allowed_fields()) is not None and _SENT_AT not in allowed:
        return stored
    # The stored body is an object of ours: a field is added without parsing what may be megabytes.
    comma = b"" if stored == b"{}" else b","
    sent_at = b'%s"%s":"%s"}' % (comma, _SENT_AT.encode(), now.isoformat().encode())
    return b"".join((memoryview(stored)[:-1], sent_at))


def stateless_end(lease: Lease) -> tuple[str, BaseException | None] | None:
    """How the stateless run that is being worked on has ended; None if it has not.

    Its worker tells nobody: it deletes the run's thread, whatever the end was. So its variables are read;
    `surface.py` sees at start that it has them.
    """
    if lease.work is None:
        return None
    known = inspect.getcoroutinelocals(lease.work)
    status = known.get("status")
    return None if status is None else (status, known.get("exception"))


def host_of(url: str) -> str:
    """The host of a webhook's URL, without whatever else may be secret in it."""
    try:
        return urlsplit(url).hostname or HERE
    except ValueError:  # brackets that are no IPv6 address
        return "(unreadable)"


def _payload(
    lease: Lease, status: str, checkpoint: Mapping[str, Any] | None, exception: BaseException | None
) -> dict[str, Any]:
    payload = {
        **lease.run,
        "status": status,
        "run_started_at": lease.started_at.isoformat(),
        "run_ended_at": datetime.now(UTC).isoformat(),
        "values": checkpoint["values"] if checkpoint else None,
    }
    if exception is not None:
        payload["error"] = _error(lease.explained(exception))
    if (allowed := _allowed_fields()) is not None:
        payload = {name: value for name, value in payload.items() if name in allowed}
    return payload


def _allowed_fields() -> frozenset[str] | None:
    from langgraph_api.config import WEBHOOKS_CONFIG

    fields = WEBHOOKS_CONFIG.get("allowed_fields") if WEBHOOKS_CONFIG else None
    return frozenset(fields) if fields else None


def _error(error: BaseException) -> Any:
    from langgraph_api.serde import json_dumpb, json_loads

    try:
        return json_loads(json_dumpb(error))
    except Exception as fault:
        # An exception of the graph's own, with something in it that is no JSON: the callback still goes.
        logger.warning(
            "An error cannot be put into a callback whole", error=f"{type(fault).__name__}: {fault}"
        )
        return {"error": type(error).__name__, "message": str(error)}


def _dumped(payload: Mapping[str, Any]) -> bytes:
    from langgraph_api.serde import json_dumpb

    return bytes(json_dumpb(payload))


async def _sealed(payload: dict[str, Any]) -> bytes:
    from langgraph_api.serde import json_loads

    model, field = _SEALED_AS
    row = await encrypted({field: json_loads(_dumped(payload))}, model, [field])
    return _dumped(row[field])


async def _unsealed(stored: bytes) -> bytes:
    from langgraph_api.serde import json_loads

    if not using_custom_encryption():
        raise ValueError("its body is encrypted, and langgraph.json has no `encryption` any more")
    model, field = _SEALED_AS
    row = await decrypted({field: json_loads(stored)}, model, [field])
    return _dumped(row[field])
