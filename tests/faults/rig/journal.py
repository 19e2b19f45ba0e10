"""What the nodes wrote down of themselves, and which of them ran twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Note:
    """One line: a node began or ended."""

    run_id: str
    node: str
    what: str
    process_id: int
    seconds: float
    """The machine's monotonic clock, the same for all its processes."""


@dataclass(frozen=True)
class Repeated:
    """Nodes, as (run, node), that ran more than once."""

    completed: set[tuple[str, str]]
    """The run had begun its next node when this one began again: its result had been thrown away."""
    in_flight: set[tuple[str, str]]
    """The node was the run's last to have begun: it, or the writing of its result, was under way when the
    fault came. At least once is all that anybody can promise of such a node."""


class Journal:
    """The file that the graphs write to."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is made empty."""
        self.path = path
        path.write_bytes(b"")

    def notes(self) -> list[Note]:
        """All lines, in the order in which they were written."""
        found = []
        for line in self.path.read_text().splitlines():
            run_id, node, what, process_id, seconds = line.split(" ")
            found.append(Note(run_id, node, what, int(process_id), float(seconds)))
        return found

    def began(self, node: str) -> int:
        """How often this node has begun."""
        return len([note for note in self.notes() if note.node == node and note.what == "began"])

    def ended(self, node: str) -> int:
        """How many runs have ended this node."""
        return len({note.run_id for note in self.notes() if note.node == node and note.what == "ended"})


def repeated(notes: list[Note], order: tuple[str, ...]) -> Repeated:
    """Find the nodes that began again.

    Args:
        notes: What the nodes wrote down.
        order: The graph's nodes, in their order; those of other graphs are left out.
    """
    furthest: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    completed: set[tuple[str, str]] = set()
    in_flight: set[tuple[str, str]] = set()
    for note in notes:
        if note.what != "began" or note.node not in order:
            continue
        place, key = order.index(note.node), (note.run_id, note.node)
        if place < furthest.get(note.run_id, -1):
            completed.add(key)
        elif key in seen:
            in_flight.add(key)
        seen.add(key)
        furthest[note.run_id] = max(place, furthest.get(note.run_id, -1))
    return Repeated(completed, in_flight - completed)
