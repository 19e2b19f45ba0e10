"""How long runs wait for a free slot: Erlang C.

The model (M/M/c) takes it that runs arrive one by one, independently of one another (Poisson), that how long
they take varies as an exponential distribution does, that any free slot takes the oldest, and that none waits
for another run of its thread. Runs that all take the same time wait less; where a few take very long, longer:
docs/scale.md says how far off the model is, and a test compares it with a simulation and with a real server.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Slots:
    """So many runs at once, for what arrives."""

    count: int
    runs_per_second: float
    seconds_per_run: float

    @property
    def busy(self) -> float:
        """How many are busy on average."""
        return self.runs_per_second * self.seconds_per_run

    @property
    def load(self) -> float:
        """What part of them that is; from 1 on the queue grows for ever."""
        return self.busy / self.count

    @property
    def chance_to_wait(self) -> float:
        """What part of the runs finds no free slot."""
        if self.load >= 1:
            return 1.0
        # Erlang B by its recursion, which neither overflows nor loses digits, and from it Erlang C.
        blocked = 1.0
        for number in range(1, self.count + 1):
            blocked = self.busy * blocked / (number + self.busy * blocked)
        return blocked / (1 - self.load * (1 - blocked))

    @property
    def mean_wait_seconds(self) -> float:
        """Of all runs, those that wait not at all included."""
        if self.load >= 1:
            return math.inf
        return self.chance_to_wait * self.seconds_per_run / (self.count - self.busy)

    def wait_seconds(self, part: float) -> float:
        """The wait that so large a part of the runs does not exceed."""
        if self.load >= 1:
            return math.inf
        chance = self.chance_to_wait
        if chance <= 1 - part:
            return 0.0
        return math.log(chance / (1 - part)) * self.seconds_per_run / (self.count - self.busy)


def fewest(runs_per_second: float, seconds_per_run: float, goal_seconds: float, *, step: int) -> int:
    """The fewest processes of `step` slots each with which 95 of 100 runs start within the goal."""
    low = max(1, math.floor(runs_per_second * seconds_per_run / step))
    high = low + 1

    def is_enough(count: int) -> bool:
        return Slots(count * step, runs_per_second, seconds_per_run).wait_seconds(0.95) <= goal_seconds

    while not is_enough(high):
        high = 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return low
