"""Nothing passes without the bearer token; it is asked for before the body is looked at."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sdk_client.callbacks.refusal import Refusal


class RequireBearer:
    """ASGI middleware that answers 401 unless the request carries `Authorization: Bearer <token>`."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        """Guard `app` with `token`."""
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token):
            await self._app(scope, receive, send)
            return
        refusal = Refusal(
            401,
            "send the token of LG_WEBHOOK_TOKEN as Authorization: Bearer <token>",
            headers={"WWW-Authenticate": "Bearer"},
        )
        await refusal(scope, receive, send)
