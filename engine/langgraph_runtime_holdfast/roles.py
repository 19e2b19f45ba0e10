"""What a server does."""

from enum import StrEnum


class Role(StrEnum):
    """The values of `--role`."""

    ALL = "all"
    """Answers the API and executes runs."""
    API = "api"
    """Answers the API; runs wait for a queue."""
    QUEUE = "queue"
    """Executes runs; answers only /ok and /metrics."""
