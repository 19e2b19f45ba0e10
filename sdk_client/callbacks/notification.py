"""From the bytes of a webhook to the few facts that are kept: ids, status, times."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from starlette.requests import ClientDisconnect, Request

logger = logging.getLogger(__name__)


class RejectedError(Exception):
    """The request is not a webhook that can be stored; `status_code` and the message say why."""

    def __init__(self, status_code: int, message: str) -> None:
        """Take the HTTP status to answer with and what is wrong."""
        super().__init__(message)
        self.status_code = status_code


@dataclass(frozen=True)
class Notification:
    """What a webhook claims about a run. The times are for people: one that cannot be read is None."""

    run_id: UUID
    thread_id: UUID
    status: str
    webhook_id: str | None = None
    """The same at every delivery of one webhook; None from a sender that gives none."""
    run_started_at: datetime | None = None
    run_ended_at: datetime | None = None
    webhook_sent_at: datetime | None = None


async def read_body(request: Request, *, max_bytes: int, timeout_seconds: float) -> bytes:
    """Read the body, counting what really arrives, whatever Content-Length says.

    Raises:
        RejectedError: 413 when it is longer than `max_bytes`, 408 when it is not complete in time, 400
            when the sender hung up.
    """
    too_long = RejectedError(
        413,
        f"the body is longer than {max_bytes} bytes: send fewer fields (webhooks.allowed_fields in "
        "langgraph.json) or raise CALLBACKS_MAX_BODY_BYTES",
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise too_long
    except TimeoutError:
        raise RejectedError(408, f"the body was not complete within {timeout_seconds:g} s") from None
    except ClientDisconnect:
        raise RejectedError(400, "the sender hung up before the body was complete") from None
    return bytes(body)


def parse_notification(body: bytes, webhook_id: str | None = None) -> Notification:
    """Take the facts out of a webhook's body.

    Args:
        body: as it was sent.
        webhook_id: from its headers.

    Raises:
        RejectedError: 400 when it is no JSON object, 422 when a field is missing or wrong.
    """
    try:
        payload = json.loads(body)
    # ValueError: no JSON, no UTF-8, or a number of thousands of digits; RecursionError: nested too deep.
    except (ValueError, RecursionError):
        raise RejectedError(400, "the body is not valid JSON") from None
    if not isinstance(payload, dict):
        raise RejectedError(400, "the body is not a JSON object")
    run_id = _uuid(payload, "run_id")
    return Notification(
        run_id=run_id,
        thread_id=_uuid(payload, "thread_id"),
        status=_status(payload),
        webhook_id=webhook_id,
        run_started_at=_time(payload, "run_started_at", run_id),
        run_ended_at=_time(payload, "run_ended_at", run_id),
        webhook_sent_at=_time(payload, "webhook_sent_at", run_id),
    )


def parse_uuid(text: str, name: str) -> UUID:
    """Read a UUID in its usual form.

    Raises:
        RejectedError: 422, naming the field.
    """
    if re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text) is None:
        raise RejectedError(422, f"{name} must be a UUID")
    return UUID(text)


def _uuid(payload: dict[str, Any], name: str) -> UUID:
    value = payload.get(name)
    if not isinstance(value, str):
        raise RejectedError(422, f"{name} is missing or not a string")
    return parse_uuid(value, name)


def _status(payload: dict[str, Any]) -> str:
    # Not held against a list: a status that a later server adds must not be refused, since some senders do
    # not repeat what was refused. The true status is read from the server anyway.
    value = payload.get("status")
    if not isinstance(value, str) or re.fullmatch(r"[a-z][a-z_]{0,31}", value) is None:
        raise RejectedError(422, "status is missing or not a word of at most 32 lower-case letters")
    return value


def _time(payload: dict[str, Any], name: str, run_id: UUID) -> datetime | None:
    value = payload.get(name)
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        logger.warning("left out %s of run_id=%s: not an ISO 8601 time", name, run_id)
        return None
