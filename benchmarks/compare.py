"""Side by side: every side under every load, in rounds, so that a machine that drifts hits all alike."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client_process import ClientProcess
from benchmarks.measurement import Load, Seen
from benchmarks.peers import PeerMissingError
from benchmarks.processor import machine_seconds, processor_seconds
from benchmarks.results import Measured, quantile
from benchmarks.services import Services
from benchmarks.sides import RunningSide, Side, running_side
from langgraph_runtime_holdfast.local.errors import LocalStackError

MACHINE = "machine"


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    cases: tuple[str, ...]
    clients: tuple[int, ...]
    rounds: int
    seconds: float
    warm_up_seconds: float = 1.0
    once_from_clients: int = 200
    """So many clients are measured in the first round only: a slow server takes long to serve them all."""


@contextlib.contextmanager
def running_sides(
    sides: Sequence[Side], services: Services, folder: Path, peers: Path
) -> Iterator[tuple[dict[str, RunningSide], dict[str, str]]]:
    """Start all sides; yields those that run and, of the peers that do not, why not.

    Raises:
        LocalStackError: One that is no peer does not start; with the end of its log.
    """
    running: dict[str, RunningSide] = {}
    absent: dict[str, str] = {}
    with contextlib.ExitStack() as held:
        for side in sides:
            try:
                running[side.name] = held.enter_context(running_side(side, services, folder, peers))
            except PeerMissingError as missing:
                absent[side.name] = str(missing)
            except LocalStackError as error:
                if not side.is_peer:
                    raise
                absent[side.name] = str(error)
        yield running, absent


def compare(
    plan: Plan,
    sides: Mapping[str, RunningSide],
    services: Services,
    client: ClientProcess,
    report: Callable[[Measured], None],
) -> None:
    """Measure all sides; each measurement is reported as it is made.

    A round goes through all loads, and for each load through all sides, one after another. The servers that
    wait for their turn take no noticeable time.
    """
    for side in sides.values():
        _warm_up(side, client)
    for number in range(1, plan.rounds + 1):
        for case in plan.cases:
            for clients in plan.clients:
                if number > 1 and clients >= plan.once_from_clients:
                    continue
                for side in sides.values():
                    if (own_case := _case_of(side.side, case)) is not None:
                        load = Load(side.target, own_case, clients, plan.seconds, plan.warm_up_seconds)
                        report(measure(side, load, number, services, client))


def _warm_up(side: RunningSide, client: ClientProcess) -> None:
    """Fill pools and caches, which the first round would else pay for."""
    case = _case_of(side.side, "thread_wait")
    assert case is not None
    client.make(Load(side.target, case, clients=50, seconds=0.5, warm_up_seconds=0.5), lambda: None)


def _case_of(side: Side, case: str) -> str | None:
    """The bare graph has one case of its own, measured where others have a thread and a wait."""
    if case in side.cases:
        return case
    return side.cases[0] if side.start is None and case == "thread_wait" else None


def measure(
    side: RunningSide, load: Load, number: int, services: Services, client: ClientProcess
) -> Measured:
    """Measure one side under one load, with the processor time of each part."""
    parts = {
        "server": side.process,
        "postgres": services.postgres_process,
        "valkey": services.valkey_process,
    }
    edges: list[dict[str, float]] = []
    seen = client.make(load, lambda: edges.append({**processor_seconds(parts), MACHINE: machine_seconds()}))
    before, after = edges
    spent = {part: after[part] - before[part] for part in after} | {"client": seen.client_cpu_seconds}
    return summarise(side.side.name, load, number, seen, spent)


def summarise(side: str, load: Load, number: int, seen: Seen, spent: Mapping[str, float]) -> Measured:
    """Boil down what the clients saw.

    Args:
        side: Its name.
        load: What was asked of it.
        number: The round.
        seen: What the clients saw.
        spent: Seconds of processor by part, and of the whole MACHINE.
    """
    parts = {part: seconds for part, seconds in sorted(spent.items()) if part != MACHINE}
    others = max(0.0, spent.get(MACHINE, 0.0) - sum(parts.values()))
    return Measured(
        side=side,
        case=load.case,
        clients=load.clients,
        round=number,
        seconds=seen.seconds,
        completed=seen.completed,
        wrong=seen.wrong,
        failed=seen.failed,
        faults=seen.faults,
        per_second=seen.completed / seen.seconds,
        p50_seconds=quantile(seen.latencies_seconds, 0.50),
        p95_seconds=quantile(seen.latencies_seconds, 0.95),
        p99_seconds=quantile(seen.latencies_seconds, 0.99),
        first_event_p50_seconds=quantile(seen.first_event_seconds, 0.50),
        events_per_second=seen.events / seen.seconds,
        processor_seconds_per_request={
            part: seconds / max(seen.completed, 1) for part, seconds in parts.items()
        },
        other_cores=others / seen.seconds,
    )
