"""A recovery to a point in time as docs/backup.md has it: base backup, archived WAL, `holdfast adopt`."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

import langgraph_runtime_holdfast.local.postgres as embedded
from langgraph_runtime_holdfast.local.unprivileged import give_away, unprivileged_prefix
from tests.deploy.backup.worlds import Worlds, holdfast, until
from tests.faults.rig.postgres import Postgres

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]
RUNNING = "SELECT count(*) FROM run_inflight WHERE status = 'running'"
HELD = "SELECT coalesce(max(lease_token), 0) FROM run_inflight"
ARCHIVED = "SELECT last_archived_wal >= '{wal}' FROM pg_stat_archiver"
RECOVERED = "SELECT NOT pg_is_in_recovery()"


async def test_it_comes_back_as_it_was_at_a_moment(tmp_path: Path) -> None:
    wal = tmp_path / "wal"
    wal.mkdir()
    give_away(wal)
    postgres = Postgres(tmp_path / "postgres")
    await postgres.start()
    await postgres.set(
        archive_mode="on",
        archive_command=f"test ! -f {wal}/%f && cp %p {wal}/%f.part && mv {wal}/%f.part {wal}/%f",
    )
    await postgres.stop()
    await postgres.start()
    back = Postgres(tmp_path / "back")
    worlds = Worlds(tmp_path)
    try:
        async with worlds.open():
            await _scenario(postgres, back, worlds, wal)
    finally:
        await asyncio.gather(postgres.stop(), back.stop())


async def _scenario(postgres: Postgres, back: Postgres, worlds: Worlds, wal: Path) -> None:
    world = worlds.make(postgres.uri)
    await world.server.start()
    await world.server.wait_until_ready()
    async with world.load():
        await until("callbacks have come", lambda: _is(len(world.receiver.arrived()) >= 4))
        await asyncio.to_thread(_base_backup, postgres, back)
        after = len(world.acknowledged) + 8
        await until("runs after the base backup", lambda: _is(len(world.acknowledged) >= after))
        [(moment,)] = await postgres.ask("SELECT clock_timestamp()")
        point = moment.timestamp()
        await until("runs after it", lambda: _is(sum(at > point + 1 for at, _ in world.acknowledged) >= 8))
    kept = [handle for at, handle in world.acknowledged if at < point]
    # One that was answered a moment later may have been there by then.
    lost = [handle for at, handle in world.acknowledged if at > point + 1]
    [(name,)] = await postgres.ask("SELECT pg_walfile_name(pg_switch_wal())")

    async def is_archived() -> bool:
        return await postgres.ask(ARCHIVED.format(wal=name)) == [(True,)]

    await until("the log is archived", is_archived)
    await world.server.kill()
    await postgres.stop()
    shutil.rmtree(postgres.folder)

    with (back.folder / "data" / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"archive_mode = 'off'\nrestore_command = 'cp {wal}/%f %p'\n")
        settings.write(f"recovery_target_time = '{moment.isoformat()}'\nrecovery_target_action = 'promote'\n")
    signal = back.folder / "data" / "recovery.signal"
    signal.touch()
    give_away(signal)
    await back.start()
    await until("it is recovered", lambda: _recovered(back))
    [(running,)] = await back.ask(RUNNING)
    [(held,)] = await back.ask(HELD)
    world.given["DATABASE_URI"] = back.uri
    said = await holdfast(world.given, "adopt", "--paused")
    assert f"{running} runs that were running" in said
    assert await back.ask(RUNNING) == [(0,)]
    [(token,)] = await back.ask("SELECT nextval('lease_token')")
    assert token > held + 1_000_000
    await holdfast(world.given, "resume")
    await world.server.start()
    await world.server.wait_until_ready()
    await world.until_all_are_done(kept)
    await world.until_all_are_told(kept)
    assert set(await world.statuses(lost)) == {"gone"}
    print(f"{len(kept)} runs before the moment all done and told; {len(lost)} after it gone")


def _base_backup(postgres: Postgres, back: Postgres) -> None:
    back.folder.mkdir()
    give_away(back.folder)
    shutil.copy(postgres.folder / "password", back.folder / "password")
    program = embedded.bin_folder(embedded.VERSION) / "pg_basebackup"
    options = ["--pgdata", str(back.folder / "data"), "--dbname", postgres.uri]
    command = [str(program), *options, "--checkpoint=fast", "--wal-method=stream"]
    ended = subprocess.run(
        [*unprivileged_prefix([program, back.folder]), *command],
        check=False,
        text=True,
        cwd=back.folder,
        env=embedded.bare_environment(),
        capture_output=True,
    )
    assert ended.returncode == 0, ended.stderr


async def _is(so: bool) -> bool:
    return so


async def _recovered(postgres: Postgres) -> bool:
    return await postgres.ask(RECOVERED) == [(True,)]
