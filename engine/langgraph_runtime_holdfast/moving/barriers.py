"""Nodes that wait for several others, and which of those have ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langgraph.channels.named_barrier_value import NamedBarrierValue, NamedBarrierValueAfterFinish


def barriers(graph: Any) -> dict[str, Any]:
    """The graph's channels that wait for several nodes."""
    kinds = (NamedBarrierValue, NamedBarrierValueAfterFinish)
    return {name: channel for name, channel in graph.channels.items() if isinstance(channel, kinds)}


def waiting(graph: Any, steps: Iterable[Iterable[str]]) -> dict[str, Any]:
    """What those channels hold after these steps, each the names of the nodes that ran in it.

    One that has seen all its nodes lets its own run in the next step, and begins anew.
    """
    found = barriers(graph)
    seen: dict[str, set[str]] = {name: set() for name in found}
    for step in steps:
        for name, channel in found.items():
            if seen[name] == channel.names:
                seen[name] = set()
            seen[name] |= channel.names & set(step)
    return {
        name: (some, False) if isinstance(found[name], NamedBarrierValueAfterFinish) else some
        for name, some in seen.items()
        if some and some != found[name].names
    }
