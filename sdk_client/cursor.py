"""Knowing which event of a stream comes next, across cut connections.

Two habits of servers make "reconnect with the last id" lose or repeat events. The in-memory server stamps
events with the millisecond, so several share an id, and asking for what came *after* that id skips the rest
of them. And a server subscribes a reader before it replays what it has stored, so what is published in
between arrives twice.

So the cursor asks from *before* the last id. The server must then begin by repeating the events of that id
that are already delivered: they are skipped by count, and if they do not come the server has forgotten
them, which is a gap. Anything older than the last id is a repetition. What remains doubtful is an event
with the last id and a content already delivered under it; the verdict is ASK, and the server's own store,
read anew, decides (`settle`).

Where some of a run's events never came into its store, the engine sends the run's final values once more, as
an event without an id among those that have one: that stands for what is missing.
"""

from __future__ import annotations

from enum import Enum

from sdk_client.models import StreamEvent

FROM_THE_START = "-1"
"""Sorts before every id; what the official clients send to get a stream from its first event."""


class Verdict(Enum):
    """What to do with an event that arrived."""

    DELIVER = "deliver"
    SKIP = "skip"
    GAP = "gap"  # events are missing before this one; deliver it after saying so
    ASK = "ask"


class Cursor:
    """The position in one run's stream."""

    def __init__(self) -> None:
        """Start before the first event."""
        self.resume_from = FROM_THE_START
        """The `Last-Event-ID` of the next connection."""
        self.last_id: str | None = None
        self.delivered: list[str] = []
        """The contents delivered under `last_id`, in order."""
        self._to_repeat = 0
        self.started = False
        """Whether anything has been delivered."""
        self._unkept_seen = False
        self._cut_while_unkept = False
        self._stand_in: str | None = None

    def connect(self) -> None:
        """Begin a connection made with `resume_from`."""
        self._to_repeat = len(self.delivered)
        self._cut_while_unkept = self._unkept_seen

    @property
    def owes_repetition(self) -> bool:
        """Whether the server has yet to repeat what it must still hold."""
        return self._to_repeat > 0

    def judge(self, event: StreamEvent) -> Verdict:
        """Place an event that arrived; DELIVER and GAP must be followed by `advance`."""
        if not self.started:
            # The first event of every run announces the run itself.
            return Verdict.DELIVER if event.event == "metadata" else Verdict.GAP
        if self._stands_in(event):
            return Verdict.SKIP if content_of(event) == self._stand_in else Verdict.GAP
        if event.id is None or not is_kept(event):
            return Verdict.GAP if self._cut_while_unkept else Verdict.DELIVER
        if self.last_id is None:
            return Verdict.DELIVER
        if event.id == self.last_id:
            if self._to_repeat:
                self._to_repeat -= 1
                return Verdict.SKIP
            return Verdict.ASK if content_of(event) in self.delivered else Verdict.DELIVER
        if _is_older(event.id, self.last_id):
            return Verdict.SKIP
        return Verdict.GAP if self._to_repeat else Verdict.DELIVER

    def settle(self, event: StreamEvent, stored: list[str]) -> Verdict:
        """Decide an ASK by the contents that the server holds under the last id, in order."""
        position = len(self.delivered)
        fresh = position < len(stored) and stored[position] == content_of(event)
        return Verdict.DELIVER if fresh else Verdict.SKIP

    def advance(self, event: StreamEvent) -> None:
        """Count an event as delivered."""
        if self._stands_in(event):
            self._stand_in = content_of(event)
            return
        self.started = True
        if not is_kept(event):
            self._unkept_seen, self._cut_while_unkept = True, False
            return
        self._to_repeat = 0
        if event.id == self.last_id:
            self.delivered.append(content_of(event))
            return
        if self.last_id is not None:
            self.resume_from = self.last_id
        self.last_id, self.delivered = event.id, [content_of(event)]

    def _stands_in(self, event: StreamEvent) -> bool:
        return self.last_id is not None and event.id is None and event.event == "values"


def is_kept(event: StreamEvent) -> bool:
    """Tell whether the server can send the event again.

    It keeps those of a run created as resumable (they carry ids), except the three kinds that it makes of the
    stream mode "messages" (`messages/partial` and so on); "messages-tuple" is kept.
    """
    return event.id is not None and "/" not in event.event.split("|")[0]


def content_of(event: StreamEvent) -> str:
    """Give what makes two events under one id the same."""
    return f"{event.event}\n{event.data!r}"


def _is_older(one: str, other: str) -> bool:
    """Compare ids of the form `milliseconds-sequence`; ids of another form have no known order."""
    try:
        return _parts(one) < _parts(other)
    except ValueError:
        return False


def _parts(event_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = event_id.partition("-")
    return int(milliseconds), int(sequence or 0)
