"""What a source gives, whichever it is: threads, assistants, crons and items, one at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID, uuid5

from langgraph_runtime_holdfast.database import Transaction

MARK: Final = "imported"
"""The key of a thread's metadata that says where it came from."""
_NAMESPACE: Final = UUID("5a3f1d0c-6f0e-5c1b-9a52-0f6a7c8e4b21")
"""Of the ids that are made here; never to be changed, or a second import would double what the first made."""


class NotTakenError(Exception):
    """One thing cannot be taken; the others can. Says why."""


@dataclass(frozen=True)
class OldThread:
    """A thread as its source has it."""

    thread_id: str
    fingerprint: str
    """Changes with its content."""
    metadata: dict[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    graph_id: str | None = None
    """Where the source knows it."""
    traits: dict[str, str] = field(default_factory=dict)
    """What a rule of `--graph` may ask for."""
    fault: str = ""
    """Why it cannot be taken."""
    is_empty: bool = False
    """It has saved nothing, so it needs no graph."""
    is_error: bool = False
    """It ended in an error, so its row says that, whatever it may go on with."""


@dataclass(frozen=True)
class OldAssistant:
    """An assistant with its versions, each with graph_id, name, description, config, context, metadata."""

    assistant_id: str
    version: int
    versions: list[dict[str, Any]]
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True)
class OldCron:
    """A cron as the API shows it."""

    cron_id: str
    assistant_id: str
    schedule: str
    payload: dict[str, Any]
    thread_id: str | None = None
    user_id: str | None = None
    timezone: str | None = None
    end_time: datetime | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    on_run_completed: str | None = None
    is_enabled: bool = True


@dataclass(frozen=True)
class OldItem:
    """An item of the store."""

    namespace: tuple[str, ...]
    key: str
    value: dict[str, Any]
    created_at: datetime | None = None
    updated_at: datetime | None = None
    ttl_minutes: float | None = None
    expires_at: datetime | None = None


class Source(Protocol):
    """Where things come from. It is only read."""

    kind: str
    notes: list[str]
    """What a person should know of it; shown in the report."""
    copies_rows: bool
    """Its states are copied as they are saved there; else they are made and saved anew."""

    def threads(self) -> AsyncIterator[OldThread]:
        """Each thread. What it says holds until the next one is asked for."""

    async def write(self, thread: OldThread, tx: Transaction, new_id: UUID, graph_id: str) -> None:
        """Write what the thread has saved; what is there already stays.

        Raises:
            NotTakenError: It cannot be written.
        """

    async def difference(self, thread: OldThread, tx: Transaction, new_id: UUID, graph_id: str) -> str:
        """Say how what is here differs from what the source has; empty if it does not."""

    def assistants(self) -> AsyncIterator[OldAssistant]:
        """Each assistant that somebody made."""

    def crons(self) -> AsyncIterator[OldCron]:
        """Each cron."""

    def items(self) -> AsyncIterator[OldItem]:
        """Each item of the store."""


def new_id(old: str) -> UUID:
    """The id here: the same where it is a UUID, else one that is always the same for it."""
    try:
        found = UUID(old)
    except ValueError:
        return uuid5(_NAMESPACE, old)
    # Postgres would give it back in another form than the caller's, who would look for it in vain.
    return found if str(found) == old else uuid5(_NAMESPACE, old)
