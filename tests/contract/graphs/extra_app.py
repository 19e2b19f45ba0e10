"""The routes that a deployment adds to the server: with its own lifespan and middleware."""

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    app.state.opened = True
    yield


class Stamp(BaseHTTPMiddleware):
    """Marks each answer."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-stamp"] = "stamped"
        return response


async def whoami(request: Request) -> JSONResponse:
    return JSONResponse({"user": request.user.identity, "opened": request.app.state.opened})


app = Starlette(routes=[Route("/extra/whoami", whoami)], lifespan=lifespan, middleware=[Middleware(Stamp)])
