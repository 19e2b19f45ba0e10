"""What of a run was saved, and when: how far saving lags behind the nodes, and which saved nodes ran again.

Postgres notes when each transaction commits (`track_commit_timestamp`), in the instant before the log is
written out; the nodes note when they end. Under the durability "async" a run goes on before its steps are
saved, so there the journal alone cannot tell that a node was complete when it ran again: it was if its
checkpoint is there twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.rig.journal import Note
from tests.faults.rig.postgres import Postgres

SETTINGS = {"track_commit_timestamp": "on"}
_SAVED = """
SELECT metadata->>'run_id', (metadata->>'step')::int,
       extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8
FROM checkpoints
WHERE checkpoint_ns = '' AND (metadata->>'step')::int > 0 AND metadata->>'run_id' = ANY(%s)
"""


@dataclass(frozen=True)
class Saved:
    """A checkpoint of a run: which node's, and when it was committed, by the machine's monotonic clock."""

    run_id: str
    node: str
    seconds: float


async def saved_nodes(postgres: Postgres, run_ids: Sequence[str], nodes: Sequence[str]) -> list[Saved]:
    """Read what was saved of these runs, each on a thread of its own."""
    rows = await postgres.ask(_SAVED, [list(run_ids)])
    ahead = time.time() - time.monotonic()
    return [
        Saved(run_id, nodes[step - 1], committed - ahead)
        for run_id, step, committed in rows
        if step <= len(nodes) and committed is not None
    ]


def saved_twice(saved: Sequence[Saved]) -> set[tuple[str, str]]:
    """The nodes, as (run, node), that ran again although their checkpoint had been saved."""
    counted = Counter((each.run_id, each.node) for each in saved)
    return {key for key, times in counted.items() if times > 1}


def lags_of(saved: Sequence[Saved], notes: Sequence[Note]) -> list[float]:
    """From the end of each node to its checkpoint's commit, in seconds, in rising order."""
    ends: dict[tuple[str, str], list[float]] = {}
    for note in notes:
        if note.what == "ended":
            ends.setdefault((note.run_id, note.node), []).append(note.seconds)
    lags = []
    for each in saved:
        # Of a node that ran again, the end that this checkpoint is of.
        if before := [end for end in ends.get((each.run_id, each.node), ()) if end <= each.seconds]:
            lags.append(each.seconds - before[-1])
    return sorted(lags)
