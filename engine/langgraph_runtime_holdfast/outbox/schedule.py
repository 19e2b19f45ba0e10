"""When a callback that could not be delivered is tried again."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST_BACK_OFF_SECONDS: Final = 900.0
LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0
_JITTER: Final = 0.25


def back_off_seconds(attempts: int) -> float:
    """How long to wait after so many attempts: about a second after the first, then twice as long each time.

    Each wait is up to a quarter longer or shorter, so that what failed together does not come back together.
    """
    # Bounded before the power: the count of a callback that is tried for days is large.
    seconds = min(LONGEST_BACK_OFF_SECONDS, 2.0 ** min(attempts - 1, 20))
    return seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads load, protects nothing


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Read a Retry-After header, in seconds or as a date; None if there is none that can be read.

    What asks for more than an hour gets an hour.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal():
        # As text first: a number of a thousand digits is no float.
        seconds = float(text[:12])
    else:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
