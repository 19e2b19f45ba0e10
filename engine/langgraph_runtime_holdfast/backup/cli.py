"""`holdfast backup`, `restore`, `adopt`, `pause` and `resume`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from langgraph_runtime_holdfast.backup.manifest import Manifest

CANNOT: int = 2

Config = Annotated[Path, typer.Option(help="langgraph.json, whose `env` may name the database.")]
Jobs = Annotated[int, typer.Option(min=1, max=64, help="Tables at once.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Paused = Annotated[
    bool,
    typer.Option("--paused", help="Have servers begin no run, cron or callback until `holdfast resume`."),
]


def backup(
    folder: Annotated[Path, typer.Argument(help="Where backups are; each is a folder in it.")] = Path(
        "backups"
    ),
    jobs: Jobs = 1,
    verify: Annotated[bool, typer.Option("--verify", help="Read all of it again afterwards.")] = False,
    as_json: AsJson = False,
    config: Config = Path("langgraph.json"),
) -> None:
    """Back up the database in DATABASE_URI, whole and of one moment, while servers work on it.

    It has its name only when all of it is on disk.
    """
    # As Ctrl-C: pg_dump is ended, and what it has written is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _told():
        from langgraph_runtime_holdfast.backup.dump import backup as make
        from langgraph_runtime_holdfast.backup.restore import verify as read_again
        from langgraph_runtime_holdfast.find_database import find_database

        final, manifest = make(find_database(config), folder, jobs=jobs)
        if verify:
            read_again(final)
    _show(final, manifest, as_json=as_json)


def restore(
    backup: Annotated[Path, typer.Argument(help="A backup; with --list also a folder of them.")],
    list_only: Annotated[bool, typer.Option("--list", help="Say what is in it, and do nothing.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read all of it, and restore nothing.")] = False,
    paused: Paused = False,
    replace: Annotated[bool, typer.Option("--replace", help="Drop what is in the database first.")] = False,
    in_use: Annotated[bool, typer.Option("--in-use", help="Restore although others are connected.")] = False,
    jobs: Jobs = 1,
    as_json: AsJson = False,
    config: Config = Path("langgraph.json"),
) -> None:
    """Restore a backup into the database in DATABASE_URI, which is empty, and migrate it to this engine.

    Runs that were running wait and go on from their last step; callbacks that were not acknowledged are sent.
    """
    with _told():
        from langgraph_runtime_holdfast.backup import restore as restoring
        from langgraph_runtime_holdfast.backup.manifest import FILE, read_manifest
        from langgraph_runtime_holdfast.find_database import find_database

        if list_only:
            found = [backup] if (backup / FILE).exists() else sorted(backup.glob(f"*/{FILE}"))
            for path in found or [backup]:
                folder = path.parent if path.name == FILE else path
                _show(folder, read_manifest(folder), as_json=as_json)
            return
        if verify:
            _show(backup, restoring.verify(backup), as_json=as_json)
            return
        wishes = restoring.Wishes(jobs=jobs, replaces=replace, in_use=in_use, paused=paused)
        done = restoring.restore(backup, find_database(config), wishes)
    if as_json:
        print(json.dumps(asdict(done), indent=2))
        return
    _show(backup, done.manifest, as_json=False)
    for name in done.applied:
        print(f"applied {name}")
    print(f"restored; {done.running} runs that were running wait to go on")
    if done.is_paused:
        print("paused: servers begin no run, cron or callback until `holdfast resume`")


def adopt(paused: Paused = False, config: Config = Path("langgraph.json")) -> None:
    """Make a database that came back by other means than `restore` safe to serve on.

    After a recovery to a point in time, or from a snapshot of a disk: leases, claims and tokens of the
    world it was taken from count no more. No server may run on it meanwhile.
    """
    with _told():
        from langgraph_runtime_holdfast.backup import settle
        from langgraph_runtime_holdfast.find_database import find_database

        running = settle.adopt(find_database(config), paused=paused)
    print(f"adopted; {running} runs that were running wait to go on")
    if paused:
        print("paused: servers begin no run, cron or callback until `holdfast resume`")


def pause(
    reason: Annotated[str, typer.Option(help="Shown by /ok, the log and `holdfast doctor`.")] = "by hand",
    config: Config = Path("langgraph.json"),
) -> None:
    """Have all servers on the database begin no run, cron or callback; what is under way goes on."""
    with _told():
        from langgraph_runtime_holdfast.backup import settle
        from langgraph_runtime_holdfast.find_database import find_database

        settle.begin_pause(find_database(config), reason)
    print("paused: servers begin no run, cron or callback until `holdfast resume`")


def resume(
    skip_crons: Annotated[
        bool, typer.Option("--skip-crons", help="Crons that missed dates wait for their next one.")
    ] = False,
    config: Config = Path("langgraph.json"),
) -> None:
    """End the pause: runs, crons and callbacks that are due begin.

    A cron fires once, however many of its dates have passed.
    """
    with _told():
        from langgraph_runtime_holdfast.backup import settle
        from langgraph_runtime_holdfast.find_database import find_database

        # The server's configuration is read with the schedules, and demands one; nothing is sent there.
        os.environ.setdefault("REDIS_URI", "redis://127.0.0.1")
        done = settle.resume(find_database(config), skips_crons=skip_crons)
    print("the pause has ended" if done.was_paused else "there was no pause")
    if done.crons_due:
        then = "wait for their next one" if skip_crons else "fire once each, however many they missed"
        print(f"crons whose dates have passed: {done.crons_due}; they {then}")


def _show(folder: Path, manifest: Manifest, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"backup": str(folder), **asdict(manifest)}, indent=2))
    else:
        print("\n".join([str(folder), *(f"  {line}" for line in manifest.lines())]))


@contextmanager
def _told() -> Iterator[None]:
    from langgraph_runtime_holdfast.errors import EngineError
    from langgraph_runtime_holdfast.telling import tell

    try:
        yield
    except EngineError as error:
        tell(str(error), "error")
        raise typer.Exit(CANNOT) from None
