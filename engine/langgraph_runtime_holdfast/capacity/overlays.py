"""How much each overlay of deploy/kubernetes is for; a test compares this with the manifests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from langgraph_runtime_holdfast.capacity.plan import Plan


@dataclass(frozen=True)
class Overlay:
    """The most that one has as it is delivered."""

    name: str
    api: int
    queue: int
    max_connections: int
    """Of its Postgres, or of the one that it wants from a provider."""
    pgbouncer: bool
    disk_gib: int | None
    """None: the provider's."""
    valkey_mb: int | None
    spare: bool
    """Whether a queue may be away while all goes on."""


OVERLAYS: Final = (
    Overlay("small", 1, 1, 200, pgbouncer=False, disk_gib=50, valkey_mb=768, spare=False),
    Overlay("ha", 4, 6, 500, pgbouncer=False, disk_gib=100, valkey_mb=768, spare=True),
    Overlay("large", 10, 20, 150, pgbouncer=True, disk_gib=None, valkey_mb=None, spare=True),
)


@dataclass(frozen=True)
class Fit:
    """Whether one is enough as it is."""

    overlay: str
    fits: bool
    lacks: tuple[str, ...]
    """What to raise in a copy of it."""


def fits(plan: Plan) -> list[Fit]:
    """Which overlays are enough, and what the others lack."""
    return [Fit(each.name, not (lacks := _lacks(plan, each)), lacks) for each in OVERLAYS]


def _lacks(plan: Plan, overlay: Overlay) -> tuple[str, ...]:
    servers = plan.servers
    queue = servers.queue if overlay.spare else servers.queue_at_least
    api = servers.api if overlay.spare else servers.api_at_least
    disk_gib = plan.disk.disk_gb * 1e9 / 2**30
    wanted = (
        ("of api", api, overlay.api),
        ("of queue", queue, overlay.queue),
        ("GiB of disk", round(disk_gib), overlay.disk_gib),
        ("MB in Valkey", plan.valkey.memory_mb, overlay.valkey_mb),
        ("nodes of Valkey", plan.valkey.nodes, None if overlay.valkey_mb is None else 1),
    )
    return tuple(
        f"{need:,} {name} (it has {most})" for name, need, most in wanted if most is not None and need > most
    )
