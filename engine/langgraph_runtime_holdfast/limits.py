"""How large things may be, and the error that says so.

One bound holds for whatever is one field in Postgres: a run's input, a channel of a checkpoint, the values of
a thread. Postgres itself ends at 256 MB of JSON and 1 GB a field, and needs several times that memory on the
way; a bound below it is an error that a caller understands instead of a server that runs out of memory.
"""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException

from langgraph_runtime_holdfast.settings import settings

MEGABYTE: Final = 1_000_000
_TOO_LARGE: Final = 413
_ANSWERS: Final = 5
"""An answer with several states may have so many times the bound of one."""


class TooLargeError(HTTPException):
    """Something is larger than this deployment allows; trying again does not make it smaller."""

    def __init__(self, what: str, size_bytes: int, cure: str, bound_bytes: int | None = None) -> None:
        """Name it, its size, the setting and the cure."""
        bound = largest_bytes() if bound_bytes is None else bound_bytes
        told = (
            f"{what} would have {size_bytes / MEGABYTE:.1f} MB, and {bound / MEGABYTE:g} MB is what "
            f"HOLDFAST_LARGEST_MB={settings().largest_mb:g} allows. {cure}"
        )
        super().__init__(status_code=_TOO_LARGE, detail=told)

    def __str__(self) -> str:
        """What a run that ends with it shows."""
        return self.detail


def largest_bytes() -> int:
    """How many bytes one input, one channel's value or the values of one thread may have."""
    return int(settings().largest_mb * MEGABYTE)


def check_size(what: str, size_bytes: int) -> None:
    """Refuse what is too large to be kept.

    Raises:
        TooLargeError: It is.
    """
    if size_bytes > largest_bytes():
        raise TooLargeError(what, size_bytes, "Keep large data elsewhere, and its address in the state.")


def check_answer(size_bytes: int) -> None:
    """Refuse to put together an answer with several states that is too large.

    Raises:
        TooLargeError: It would be.
    """
    bound = _ANSWERS * largest_bytes()
    if size_bytes > bound:
        raise TooLargeError(
            "The states", size_bytes, "Ask for fewer at once, with `limit` and `before`.", bound_bytes=bound
        )


def feed_bytes() -> int:
    """How many bytes of events one feed keeps in Valkey."""
    return int(settings().feed_mb * MEGABYTE)


def largest_event_bytes() -> int:
    """The largest event that goes to Valkey; listeners elsewhere are told that a larger one is missing."""
    return feed_bytes() // 4
