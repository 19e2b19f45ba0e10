"""A queue event by event: what the model of `holdfast capacity` is compared with."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

SERVICES: Final[dict[str, Callable[[random.Random], float]]] = {
    "exponential": lambda chance: chance.expovariate(1.0),
    "all the same": lambda chance: 1.0,
    # Squared coefficient of variation 4: the longest of a hundred takes nine times the average.
    "a few very long": lambda chance: chance.lognormvariate(-0.8047, 1.2686),
}
"""How long runs take, a second on average."""


def waits(arrivals: Iterable[float], services: Iterable[float], slots: int) -> Iterator[float]:
    """How long each waits, where the oldest goes to the first free slot."""
    free_at = [0.0] * slots
    for arrival, service in zip(arrivals, services, strict=False):
        begins = max(arrival, free_at[0])
        heapq.heapreplace(free_at, begins + service)
        yield begins - arrival


def simulate(
    slots: int, load: float, service: Callable[[random.Random], float], *, count: int, seed: int
) -> list[float]:
    """The waits of so many that arrive by chance, sorted; a service takes a second on average."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    arrivals = itertools.accumulate(chance.expovariate(load * slots) for _ in itertools.count())
    services = (service(chance) for _ in itertools.count())
    seen = list(itertools.islice(waits(arrivals, services, slots), count))
    return sorted(seen[count // 20 :])


def part(values: Sequence[float], which: float) -> float:
    """The value that so large a part does not exceed; they are sorted."""
    return values[min(len(values) - 1, round(which * len(values)))]
