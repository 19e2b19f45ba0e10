"""Serves a fake over a real socket, in a thread of the test's process, which sees what it was asked."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

_START_SECONDS = 30.0


@contextlib.contextmanager
def served(app: Starlette) -> Iterator[str]:
    """Serve on a free port of this machine for as long as the block lasts; yields the address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="fake-provider", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not server.started:
            assert time.monotonic() < deadline, "the fake did not start"
            assert thread.is_alive(), "the fake ended"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(_START_SECONDS)
