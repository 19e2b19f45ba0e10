"""Why Postgres does not do what it is asked, in words for callers: no address, no user, nothing of a row.

The pools connect in the background, so whoever waits for a connection learns only that none came. What the
last attempt to connect was refused with is kept here.
"""

from __future__ import annotations

import re
import threading
import time
from typing import Final

import psycopg
import structlog

logger = structlog.stdlib.get_logger(__name__)

_FRESH_SECONDS: Final = 10.0
_HEARD_SECONDS: Final = 1.5
_LOG_EVERY_SECONDS: Final = 10.0
# libpq has no SQLSTATE for what ends a connection before it begins.
_TOO_MANY: Final = re.compile(
    r"too many (clients|connections)|connection slots|no more connections allowed", re.IGNORECASE
)
_TOO_MANY_TEXT: Final = "it has too many clients (`holdfast doctor` shows the sum)"
_AWAY_TEXT: Final = "it is away, or restarting"
_BY_CODE: Final = {
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "53300": _TOO_MANY_TEXT,
    "53400": "a limit of its configuration is reached",
    "57014": "a statement took too long, or waited too long for a lock, and was ended",
    "57P03": "it is starting up",
    "25006": "it is read-only: a standby, or short of disk",
}
_EXHAUSTED: Final = "53"
_LIMIT: Final = "54"
RETRY_AFTER_SECONDS: Final = 2
RETRY_AFTER_EXHAUSTED_SECONDS: Final = 15
"""What is full does not become free within seconds."""


class LimitExceededError(psycopg.DataError):
    """A value is larger than Postgres can hold; other than psycopg's, it is no OperationalError.

    Those are tried again, and trying again does not make it smaller.
    """


class _Refusals:
    """Attempts to connect that failed, over all pools of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None
        self._last = float("-inf")
        self._logged = float("-inf")
        self._has_too_many = False

    def note(self, error: Exception) -> None:
        """An attempt has failed."""
        now = time.monotonic()
        with self._lock:
            self._since = now if self._since is None else self._since
            self._last, self._has_too_many = now, bool(_TOO_MANY.search(str(error)))
            is_due = now - self._logged > _LOG_EVERY_SECONDS
            self._logged = now if is_due else self._logged
        if is_due:
            logger.warning("Postgres gives no connection", error=" ".join(str(error).split()))

    def note_success(self) -> None:
        """An attempt has succeeded."""
        if self._since is None:
            return
        with self._lock:
            since, self._since, self._logged = self._since, None, float("-inf")
        if since is not None:
            away_seconds = round(time.monotonic() - since, 1)
            logger.info("Postgres gives connections again", away_seconds=away_seconds)

    def reason(self) -> str | None:
        """Why no connection comes; None if none was refused just now."""
        with self._lock:
            if self._since is None or time.monotonic() - self._last > _FRESH_SECONDS:
                return None
            return _TOO_MANY_TEXT if self._has_too_many else _AWAY_TEXT


refusals: Final = _Refusals()


class _Heard:
    """When Postgres last answered anybody in this process, whatever it was asked."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def note(self) -> None:
        """It has just answered."""
        self._last = time.monotonic()

    def is_fresh(self) -> bool:
        """Whether that was so lately that asking again would tell no more."""
        return time.monotonic() - self._last < _HEARD_SECONDS


heard: Final = _Heard()


def is_limit(error: BaseException) -> bool:
    """Whether Postgres can never take this, however often it is tried."""
    return (getattr(error, "sqlstate", None) or "").startswith(_LIMIT)


def is_exhausted(error: BaseException | None) -> bool:
    """Whether Postgres lacks disk, memory or connections, which takes somebody's time to put right."""
    code = getattr(getattr(error, "__cause__", None) or error, "sqlstate", None)
    return (code or "").startswith(_EXHAUSTED)


def explain_unavailable(error: BaseException, *, may_be_done: bool = False) -> str:
    """Say to a caller of the API why the database did not do it now.

    Args:
        error: What came of it, or what was raised from that.
        may_be_done: Whether it may have been done, and only the answer was lost.
    """
    code = getattr(error.__cause__ or error, "sqlstate", None)
    why = _BY_CODE.get(code or "") or refusals.reason() or "no connection became free, or one was lost"
    then = "It may have been done: look before you try again." if may_be_done else "Try again."
    return f"The database does not answer now: {why}. {then}"
