"""What a command says before the server's log exists, and when there will be none: one line each.

With LOG_JSON each line is an object, as those of the log are, so that what collects the log understands why a
server did not start.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Final, Literal

Level = Literal["info", "warning", "error"]
LOGGER: Final = "langgraph_runtime_holdfast"
_YES: Final = frozenset({"true", "1"})  # as the server reads it


def tell(line: str, level: Level = "info") -> None:
    """Print a line: to standard output, and to standard error what somebody must see."""
    file = sys.stdout if level == "info" else sys.stderr
    if is_json():
        now = datetime.now(UTC).isoformat()
        line = json.dumps({"event": line, "level": level, "logger": LOGGER, "timestamp": now})
    elif level != "info":
        line = f"{level}: {line}"
    print(line, file=file, flush=True)


def is_json() -> bool:
    """Whether whatever is said is an object a line."""
    return os.environ.get("LOG_JSON", "").strip().lower() in _YES


def log_as_servers_do() -> None:
    """With LOG_JSON, have what a command logs be objects too; a server has that from uvicorn's settings."""
    if is_json():
        from langgraph_api.logging import Formatter

        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(Formatter("%(message)s", None, "%"))
        logging.getLogger().addHandler(handler)
