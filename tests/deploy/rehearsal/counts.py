"""What a rehearsal counts, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


@dataclass
class Counts:
    """What came of the traffic since the step began; all but the first group is to be zero."""

    runs: int = 0
    """Submitted, joined, and right."""
    stateless: int = 0
    """Waited for in one call, and right."""
    streams: int = 0
    """With every event, once."""
    cancels: int = 0
    resumes: int = 0
    """Pauses that were answered, and went on."""
    firings: int = 0
    """Of the cron."""

    failed: int = 0
    lost: int = 0
    """Stateless results that came as something else."""
    gaps: int = 0
    """Streams that said that events are gone."""
    cut: int = 0
    """Stateless calls whose server was killed under them; nobody can answer those."""
    evidence: list[str] = field(default_factory=list)

    def minus(self, earlier: Counts) -> Counts:
        """What was added since."""
        made = Counts(evidence=self.evidence[len(earlier.evidence) :])
        for each in fields(self):
            if each.name != "evidence":
                setattr(made, each.name, getattr(self, each.name) - getattr(earlier, each.name))
        return made

    def copy(self) -> Counts:
        """As it is now."""
        return self.minus(Counts())

    def faults(self, *, is_killed: bool) -> list[str]:
        """What is wrong, in words; a server that is killed may cut its own calls and what it streams."""
        wanted_zero = {"failed": self.failed, "stateless results lost": self.lost}
        if not is_killed:
            wanted_zero |= {"calls cut": self.cut, "streams with a gap": self.gaps}
        return [f"{count} {what}" for what, count in wanted_zero.items() if count]


@dataclass(frozen=True)
class Row:
    """A step that is done."""

    name: str
    servers: str
    """Which version each of them is at its end."""
    seconds: float
    counts: Counts
    faults: list[str]


def table(rows: list[Row]) -> str:
    """The steps as Markdown, which a terminal shows well too."""
    head = (
        *("step", "servers", "seconds", "runs", "stateless", "streams", "cancels", "resumed", "cron"),
        *("failed", "lost", "gaps", "cut"),
    )
    lines = [head, tuple("---" for _ in head)]
    for row in rows:
        count = row.counts
        numbers = (
            *(count.runs, count.stateless, count.streams, count.cancels, count.resumes, count.firings),
            *(count.failed, count.lost, count.gaps, count.cut),
        )
        lines.append((row.name, row.servers, f"{row.seconds:.1f}", *map(str, numbers)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    told = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    wrong = [f"{row.name}: {fault}" for row in rows for fault in (*row.faults, *row.counts.evidence[:5])]
    return "\n".join([*told, "", *(wrong or ["Nothing failed, nothing was lost."])])
