"""The webhook receiver: takes a run's callback, keeps it, asks the server what is true, calls a handler.

    python -m sdk_client.callbacks --host 127.0.0.1 --port 2025

The server sends a webhook at most three times within seconds, unsigned and without an id of its own. So a
callback is acknowledged only once it is a row in Postgres, repeated ones are counted on that row, and its
body is believed in nothing but the ids: the run is read from the server again.
"""

from sdk_client.callbacks.app import create_app
from sdk_client.callbacks.events import RunEvent, RunHandler
from sdk_client.callbacks.settings import CallbackSettings

__all__ = ["CallbackSettings", "RunEvent", "RunHandler", "create_app"]
