"""How much processor time each part takes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import psutil


def processor_seconds(roots: Mapping[str, int | None]) -> dict[str, float]:
    """The time that each tree of processes has taken so far, of all cores, in seconds.

    Args:
        roots: The process at the root of each tree, by a name; those without one are left out.
    """
    return {name: _tree_seconds(root) for name, root in roots.items() if root is not None}


def machine_seconds() -> float:
    """What all programs together, and a host that took time away, have taken of all cores, in seconds."""
    times = psutil.cpu_times()
    waiting = times.idle + getattr(times, "iowait", 0.0)
    # A guest's time is part of user's, and would else be counted twice.
    return float(sum(times) - waiting - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0))


def _tree_seconds(root: int) -> float:
    """Those who have ended are counted with the parent that waited for them."""
    seconds = 0.0
    leash = psutil.Process(root)
    for process in (leash, *leash.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds
