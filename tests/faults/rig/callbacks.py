"""A small real receiver of webhooks, which counts them by run."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """Listens in a thread of its own, so that a busy test cannot make a callback fail."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        """Listen on a free port."""
        self.speaks = threading.Event()
        """While it is not set, callbacks are taken in full, and neither answered nor counted."""
        self.speaks.set()
        self.heard = 0
        """How many callbacks were begun, answered or not."""
        self._lock = threading.Lock()
        self._arrived: Counter[str] = Counter()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                receiver.heard += 1
                if not receiver.speaks.is_set():
                    receiver.speaks.wait()
                    return  # whoever sent it has given it up, or is about to
                receiver.note(str(body["run_id"]))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self.url = f"http://{host}:{self._server.server_port}/runs"
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def note(self, run_id: str) -> None:
        """Count a callback."""
        with self._lock:
            self._arrived[run_id] += 1

    def arrived(self) -> Counter[str]:
        """How many callbacks have come, by run."""
        with self._lock:
            return Counter(self._arrived)

    def close(self) -> None:
        """Stop listening."""
        self.speaks.set()
        self._server.shutdown()
        self._server.server_close()
