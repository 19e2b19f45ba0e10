"""What became of everything, for a person and for a program."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

_MOST_TOLD: Final = 200
"""Of things that were left, by name; all are counted."""
KINDS: Final = ("threads", "assistants", "crons", "items")


@dataclass
class Report:
    """Counts by kind, and what could not be taken."""

    source: str
    is_dry: bool = False
    verb: str = "taken"
    taken: Counter[str] = field(default_factory=Counter)
    already: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    reasons: list[tuple[str, str, str]] = field(default_factory=list)
    """Kind, id and reason of what was left."""
    notes: list[str] = field(default_factory=list)

    def take(self, kind: str) -> None:
        """It was not here, and is now; in a dry run it would be."""
        self.taken[kind] += 1

    def pass_over(self, kind: str) -> None:
        """It is here already, with the same content."""
        self.already[kind] += 1

    def leave(self, kind: str, name: str, why: object) -> None:
        """It could not be taken."""
        self.left[kind] += 1
        if len(self.reasons) < _MOST_TOLD:
            self.reasons.append((kind, name, " ".join(str(why).split())))

    def note(self, text: str) -> None:
        """Tell something that a person should know; once."""
        if text not in self.notes and len(self.notes) < _MOST_TOLD:
            self.notes.append(text)

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left."""
        return not self.left.total()

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "source": self.source,
            "dry_run": self.is_dry,
            **{
                kind: {
                    "taken": self.taken[kind],
                    "already": self.already[kind],
                    "left": self.left[kind],
                }
                for kind in KINDS
            },
            "left": [{"kind": kind, "id": name, "why": why} for kind, name, why in self.reasons],
            "notes": self.notes,
        }

    def print(self) -> None:
        """For people."""
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console(highlight=False)
        title = f"{self.source}{' (dry run: nothing was changed)' if self.is_dry else ''}"
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
        table.add_column("")
        for name in (f"would be {self.verb}" if self.is_dry else self.verb, "already here", "left"):
            table.add_column(name, justify="right")
        for kind in KINDS:
            counted = (self.taken[kind], self.already[kind], self.left[kind])
            table.add_row(kind, *map(str, counted))
        console.print(table)
        for kind, name, why in self.reasons:
            console.print(Text(f"left: {kind.removesuffix('s')} {name}: {why}"), soft_wrap=True)
        if (more := self.left.total() - len(self.reasons)) > 0:
            console.print(f"… and {more} more")
        for note in self.notes:
            console.print(Text(f"note: {note}"), soft_wrap=True)
