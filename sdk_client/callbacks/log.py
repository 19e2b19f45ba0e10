"""The receiver's log: lines for people, or with LOG_JSON=true an object a line, as the servers write."""

from __future__ import annotations

import json
import logging
import os
import re
from datetime import UTC, datetime
from typing import Final

_IDS: Final = re.compile(r"\b(run_id|thread_id|webhook_id)=(\S+)")


class JsonFormatter(logging.Formatter):
    """An object a line, with the ids that the line names."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        event = record.getMessage()
        line = {
            "event": event,
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            **dict(_IDS.findall(event)),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def start_log() -> None:
    """Log from here on."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if os.environ.get("LOG_JSON", "").strip().lower() in ("1", "true", "yes", "on"):
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())
    logging.getLogger("httpx").setLevel(logging.WARNING)
