"""The sides: what is measured against what."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.bare import ONE_SAVER, SAVER_PER_RUN
from benchmarks.cases import CASES
from benchmarks.peers import peer_python
from benchmarks.servers import Place, Start, place_for, running_server
from benchmarks.services import Services
from langgraph_runtime_holdfast.local.ports import HOST

JOBS = 10


@dataclass(frozen=True)
class Side:
    """One of what is compared."""

    name: str
    label: str
    start: Callable[[Place], Start] | None
    """How its server is started; None: no server, the graph in the client's process."""
    cases: tuple[str, ...] = tuple(CASES)
    health: str = "/ok"
    uses_database: bool = True
    is_peer: bool = False
    """Whether a machine may be without it."""


@dataclass(frozen=True)
class RunningSide:
    """A side that can be measured."""

    side: Side
    target: str
    """The server's address; the database's for the bare graph."""
    process: int | None
    """The leash of its server."""
    database_uri: str
    """Empty where it has none."""


def holdfast(place: Place, *, isolated: bool = False, workers: int = 1, role: str = "all") -> Start:
    """Start our server."""
    serve = [sys.executable, "-m", "langgraph_runtime_holdfast", "serve"]
    options = ["--role", role, "--workers", str(workers)]
    jobs = [] if role == "api" else ["--jobs", str(JOBS)]
    variables = {
        "DATABASE_URI": place.database_uri,
        "REDIS_URI": place.valkey_uri,
        "REDIS_KEY_PREFIX": place.database_uri.rsplit("/", 1)[1] + ":",
        "BG_JOB_ISOLATED_LOOPS": str(isolated).lower(),
    }
    return Start([*serve, *options, *jobs, *_listen(place)], variables)


def _dev(place: Place) -> Start:
    langgraph = Path(sys.executable).with_name("langgraph")
    options = ["--no-browser", "--no-reload", "--n-jobs-per-worker", str(JOBS)]
    return Start([str(langgraph), "dev", *options, *_listen(place)], {})


def _aegra(place: Place, *, redis: bool) -> Start:
    python = peer_python("aegra", place.peers)
    listen = ["--host", HOST, "--port", str(place.port)]
    variables = {
        "DATABASE_URL": place.database_uri,
        "AEGRA_CONFIG": "aegra.json",
        "AUTH_TYPE": "noop",
        "N_JOBS_PER_WORKER": str(JOBS),
        "REDIS_BROKER_ENABLED": str(redis).lower(),
        "REDIS_URL": place.valkey_uri,
    }
    return Start([str(python), "-m", "uvicorn", "aegra_api.main:app", *listen], variables)


def _langhost(place: Place) -> Start:
    python = peer_python("langhost", place.peers)
    serve = [str(python), "-m", "langhost", "serve", "--no-browser", "--n-jobs-per-worker", str(JOBS)]
    return Start(
        [*serve, *_listen(place)], {"DATABASE_URI": place.database_uri, "REDIS_URI": place.valkey_uri}
    )


def _listen(place: Place) -> list[str]:
    return ["--config", "langgraph.json", "--host", HOST, "--port", str(place.port)]


_peer = partial(Side, is_peer=True)
SIDES = {
    side.name: side
    for side in (
        Side("bare_one", "bare graph, one saver", None, (ONE_SAVER,)),
        Side("bare", "bare graph, a saver per run", None, (SAVER_PER_RUN,)),
        Side("dev", "stock in-memory server", _dev, uses_database=False),
        Side("shared", "holdfast, one loop for jobs (default)", holdfast),
        Side("isolated", "holdfast, isolated loops", partial(holdfast, isolated=True)),
        Side("workers2", "holdfast, 2 workers", partial(holdfast, workers=2)),
        _peer("aegra", "Aegra, Redis off (default)", partial(_aegra, redis=False), health="/health"),
        # A wait takes two seconds there, whatever is asked: one case shows it.
        _peer(
            "aegra_redis", "Aegra, Redis on", partial(_aegra, redis=True), ("thread_wait",), health="/health"
        ),
        _peer("langhost", "langhost", _langhost),
    )
}


@contextlib.contextmanager
def running_side(side: Side, services: Services, folder: Path, peers: Path) -> Iterator[RunningSide]:
    """Start a side on a database of its own; it ends with the block.

    Raises:
        PeerMissingError: It cannot be had on this machine.
        LocalStackError: It does not start; with the end of its log.
    """
    database_uri = services.make_database(f"bench_{side.name}") if side.uses_database else ""
    if side.start is None:
        yield RunningSide(side, database_uri, None, database_uri)
        return
    place = place_for(side.name, folder, database_uri, services.valkey_uri, peers)
    with running_server(side.name, place, side.start(place), side.health) as process:
        yield RunningSide(side, place.url, process, database_uri)
