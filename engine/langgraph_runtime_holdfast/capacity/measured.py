"""What a run costs, as it was measured: by us (`measured.json`), or by people on their own machines.

`python -m benchmarks.cost` writes such a file. What a run costs is a sum of three: one part for the run, one
for each of its steps, and one for each kilobyte of state that its steps write.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langgraph_runtime_holdfast.errors import EngineError

OURS: Final = Path(__file__).with_name("measured.json")

_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Part):
    """Where the figures are from."""

    date: str
    machine: str
    versions: dict[str, str]
    command: str


class Figures(_Part):
    """What is counted of a run."""

    postgres_ms: _Amount
    """Processor, of all processes of Postgres."""
    wal_bytes: _Amount
    kept_bytes: _Amount
    """What the database has grown by, on a thread of its own."""
    commits: _Amount
    """Transactions; a statement is mostly one of its own."""
    connection_ms: _Amount
    """For how long a connection is at work for it."""
    api_ms: _Amount
    """Processor of who answers: a thread made, the run created, its end waited for."""
    queue_ms: _Amount
    valkey_ms: _Amount
    valkey_bytes: _Amount
    """What Valkey has grown by: the events, kept for two minutes after the run's end."""


class Cell(Figures):
    """Runs of one kind, as measured."""

    steps: Annotated[int, Field(ge=1)]
    kilobytes: _Amount
    """What each step writes."""
    runs: Annotated[int, Field(ge=1)]
    """How many were measured."""

    @property
    def written_kilobytes(self) -> float:
        """What all steps together write."""
        return self.steps * self.kilobytes


class Held(_Part):
    """What a run costs for each second that it lasts and waits for something: its lease is extended."""

    postgres_ms: _Amount
    wal_bytes: _Amount
    queue_ms: _Amount


class Idle(_Part):
    """What a server costs for each second that it has nothing to do: polls and looks."""

    postgres_ms: _Amount
    """Of one that executes runs; one that answers only costs less."""
    commits: _Amount


class Claims(_Part):
    """Queues that are woken as often as can be, and find nothing."""

    running: Annotated[int, Field(ge=0)]
    """How many runs execute meanwhile, here or elsewhere: each claim reads their threads."""
    postgres_ms: Annotated[float, Field(gt=0)]
    queue_ms: Annotated[float, Field(gt=0)]

    @property
    def most_a_second(self) -> float:
        """How often one process can look: it waits for each answer."""
        return 1000 / (self.postgres_ms + self.queue_ms)


class Measured(_Part):
    """All that was measured on one machine."""

    source: Source
    cells: Annotated[list[Cell], Field(min_length=1)]
    of_run: Figures
    of_step: Figures
    of_kilobyte: Figures
    """These three are fitted to the cells."""
    statements_of_run: _Amount
    statements_of_step: _Amount
    stream_api_ms: _Amount
    """Of a run of five steps of 20 kB whose caller takes the updates as a stream."""
    wait_api_ms: _Amount
    """Of the same run if its caller waits for the end."""
    start_ms: _Amount
    """From the run's creation to the first line of its graph, with a free slot; the median."""
    held: Held
    idle: Idle
    claims: Annotated[list[Claims], Field(min_length=2)]
    looks_a_run: dict[int, _Amount]
    """How often all queues together looked for a run, by how many queues there were."""

    def cost(self, steps: int, kilobytes: float) -> Figures:
        """What a run of so many steps costs, each of which writes so much."""
        return Figures(
            **{
                name: getattr(self.of_run, name)
                + getattr(self.of_step, name) * steps
                + getattr(self.of_kilobyte, name) * steps * kilobytes
                for name in Figures.model_fields
            }
        )

    def statements(self, steps: int) -> float:
        """How many statements a run of so many steps has."""
        return self.statements_of_run + self.statements_of_step * steps

    def rounded(self) -> Measured:
        """The same with as many digits as mean something."""
        return Measured.model_validate(_rounded(self.model_dump()))

    def claim(self, running: float) -> Claims:
        """What a look for runs costs while so many execute: between what was measured, and on beyond it."""
        points = sorted(self.claims, key=lambda each: each.running)
        low, high = next(
            (pair for pair in itertools.pairwise(points) if running <= pair[1].running),
            points[-2:],
        )
        part = (running - low.running) / (high.running - low.running)

        def between(below: float, above: float) -> float:
            return below + (above - below) * part

        return Claims(
            running=round(running),
            postgres_ms=between(low.postgres_ms, high.postgres_ms),
            queue_ms=between(low.queue_ms, high.queue_ms),
        )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def read_measured(path: Path | None = None) -> Measured:
    """Read what was measured: ours, or somebody's own.

    Raises:
        EngineError: The file cannot be read, or is not what benchmarks/cost.py writes.
    """
    try:
        text = (path or OURS).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    try:
        return Measured.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "it"
        raise EngineError(
            f"{path} is not what `python -m benchmarks.cost` writes: {place}: {first['msg'].lower()}."
        ) from None
