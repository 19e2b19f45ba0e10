"""Answering before the body was read to its end, in a way that the sender gets to see.

A connection that is closed with bytes unread is reset, and the reset can overtake the answer: the sender
would log a network fault in place of "401" or "413". So the answer goes out first and the rest of the body is
thrown away for a moment before the connection is closed, within bounds.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

_LINGER_SECONDS: Final = 2.0
_LINGER_BYTES: Final = 16 * 1_048_576


class Refusal(JSONResponse):
    """A JSON answer after which what is left of the body is discarded and the connection closed."""

    def __init__(self, status_code: int, message: str, headers: dict[str, str] | None = None) -> None:
        """Take the status, what is wrong, and headers beside `Connection: close`."""
        super().__init__(
            {"error": message}, status_code=status_code, headers={**(headers or {}), "Connection": "close"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole answer, discard, then end it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # The client has everything by its Content-Length; "more" only keeps the connection open.
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                await _discard(receive)
        except TimeoutError:
            pass  # enough politeness
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    discarded = 0
    while discarded < _LINGER_BYTES:
        message = await receive()
        discarded += len(message.get("body", b""))
        if not message.get("more_body", False):
            return
