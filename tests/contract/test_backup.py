"""Backup, restore and the pause, on a real Postgres; what servers make of it is in tests/deploy/backup."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.rows import dict_row

from langgraph_runtime_holdfast.backup import dump, programs
from langgraph_runtime_holdfast.backup.dump import backup
from langgraph_runtime_holdfast.backup.manifest import DUMP, FILE, Manifest, read_manifest
from langgraph_runtime_holdfast.backup.restore import Wishes, restore, verify
from langgraph_runtime_holdfast.backup.settle import adopt, begin_pause, resume
from langgraph_runtime_holdfast.backup.unfinished import unfinished
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.migrate import migrate
from langgraph_runtime_holdfast.ops.cron_schedule import next_date
from langgraph_runtime_holdfast.schema_state import TABLES
from tests.contract.engine_pool import engine_pool
from tests.contract.engines import Services

RECEIVER = Path(__file__).resolve().parents[2] / "sdk_client" / "callbacks" / "schema.sql"
# A world in the middle of its work: a run that is running, one that waits, callbacks, a cron that is due.
WORLD: LiteralString = """
INSERT INTO assistant (assistant_id, graph_id, name)
VALUES ('00000000-0000-0000-0000-00000000000a', 'g', 'g');
INSERT INTO thread (thread_id, status) SELECT gen_random_uuid(), 'busy' FROM generate_series(1, 2);
INSERT INTO run (run_id, thread_id, assistant_id, kwargs, multitask_strategy)
SELECT gen_random_uuid(), thread_id, '00000000-0000-0000-0000-00000000000a', '{}', 'enqueue' FROM thread;
INSERT INTO run_inflight (run_id, thread_id, created_at, updated_at)
SELECT run_id, thread_id, created_at, created_at FROM run;
UPDATE run_inflight SET status = 'running', attempt = 1, lease_token = nextval('lease_token'),
    leased_by = 'old', leased_until = now() + interval '1 hour'
WHERE run_id = (SELECT run_id FROM run LIMIT 1);
INSERT INTO outbox (id, run_id, thread_id, url, host, body, retry_until, claim_token, claimed_by,
                    available_at)
SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'http://a/b', 'a', '{}',
    now() - interval '1 s', nextval('lease_token'), 'old', now() + interval '1 hour';
INSERT INTO cron (cron_id, assistant_id, schedule, payload, next_run_date)
SELECT gen_random_uuid(), assistant_id, '* * * * *', '{}', now() - interval '1 minute' FROM assistant;
INSERT INTO callbacks.inbox (run_id, thread_id, reported_status)
VALUES (gen_random_uuid(), gen_random_uuid(), 'success');
"""
MISSED: LiteralString = """
WITH made AS (
    INSERT INTO assistant (assistant_id, graph_id, name) VALUES (gen_random_uuid(), 'g', 'g') RETURNING *
)
INSERT INTO cron (cron_id, assistant_id, schedule, timezone, payload, metadata, next_run_date, enabled)
SELECT gen_random_uuid(), assistant_id, schedule, zone, '{}', jsonb_build_object('name', given.name), now(),
       enabled
FROM made, (VALUES ('January', '0 4 1 1 *', NULL, true), ('July', '0 4 1 7 *', 'Asia/Tokyo', true),
            ('off', '0 4 1 1 *', NULL, false)) AS given (name, schedule, zone, enabled)
"""
# A callback that was delivered long ago, and an item of the store whose time is up.
EXPIRED: LiteralString = """
INSERT INTO outbox (id, run_id, thread_id, url, host, retry_until, delivered_at)
VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'http://a/b', 'a', now(),
    now() - interval '9 days');
INSERT INTO store (prefix, key, value, expires_at) VALUES ('a', 'b', '{}', now() - interval '1 day');
"""
# Somebody's own tables in the same database.
BESIDE: LiteralString = """
CREATE TYPE mood AS ENUM ('well'); CREATE DOMAIN few AS integer CHECK (value < 9);
CREATE TYPE pair AS (a mood, b few);
CREATE TYPE span AS RANGE (subtype = integer);
CREATE TABLE beside (id serial PRIMARY KEY, how mood, count few, two pair, within span);
CREATE VIEW seen AS SELECT * FROM beside;
CREATE FUNCTION moods(beside) RETURNS mood LANGUAGE sql AS 'SELECT $1.how';
INSERT INTO beside (how, count) VALUES ('well', 3);
"""
TOKEN: LiteralString = "SELECT last_value AS it FROM lease_token"


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """Nothing of the machine's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(programs.FOLDER, raising=False)
        yield


@pytest.fixture(scope="module")
def world(services: Services) -> str:
    """A database in use, and the receiver's schema beside the engine's."""
    uri = services.make_database(f"world_{uuid.uuid4().hex[:8]}")
    asyncio.run(migrate(uri, timeout_seconds=30))
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(RECEIVER.read_bytes())
        connection.execute(WORLD)
        connection.execute(BESIDE)
    return uri


@pytest.fixture(scope="module")
def backed_up(world: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    return backup(world, tmp_path_factory.mktemp("backups") / "new", jobs=2)


def ask(uri: str, statement: LiteralString) -> list[dict[str, Any]]:
    with psycopg.connect(uri, row_factory=dict_row, autocommit=True) as connection:
        return connection.execute(statement).fetchall()


def it(uri: str, statement: LiteralString) -> Any:
    return ask(uri, statement)[0]["it"]


def into(services: Services) -> str:
    return services.make_database(f"restored_{uuid.uuid4().hex[:8]}")


def test_what_is_restored_is_all_of_it_and_belongs_to_no_dead_world(
    services: Services, world: str, backed_up: tuple[Path, Manifest]
) -> None:
    folder, manifest = backed_up
    assert verify(folder) == manifest
    assert (manifest.in_flight, manifest.undelivered) == (2, 1)
    assert manifest.tables["callbacks.inbox"] == 1
    assert not list(folder.parent.glob("*.unfinished"))
    assert folder.stat().st_mode & 0o077 == 0, "everything of everybody is in it"
    uri = into(services)
    before = it(world, TOKEN)

    done = restore(folder, uri, Wishes(jobs=2))

    assert (done.running, done.is_paused, done.applied) == (1, False, [])
    flights = ask(uri, "SELECT status, attempt, leased_by FROM run_inflight")
    assert {(row["status"], row["attempt"], row["leased_by"]) for row in flights} == {("pending", 0, None)}
    first = it(uri, TOKEN)
    assert first > before + 1_000_000, "a worker of the old world may hold a lease on a run that is here too"
    [callback] = ask(uri, "SELECT available_at <= now() AS due, retry_until > now() AS may, * FROM outbox")
    assert (callback["due"], callback["may"], callback["claim_token"]) == (True, True, None)
    assert it(uri, "SELECT count(*) AS it FROM holdfast_pause") == 0
    # Once more from the same backup: above the first, whose workers may live as well.
    restore(folder, uri, Wishes(replaces=True))
    assert it(uri, TOKEN) > first
    assert ask(uri, "SELECT version, name FROM holdfast_migration ORDER BY 1") == ask(
        world, "SELECT version, name FROM holdfast_migration ORDER BY 1"
    )


async def test_nothing_begins_while_it_is_paused(
    services: Services, backed_up: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = into(services)
    folder, _ = backed_up
    await in_thread(restore, folder, uri, Wishes(paused=True))
    async with engine_pool(uri, monkeypatch) as handle:
        from langgraph_runtime_holdfast.ops import Crons
        from langgraph_runtime_holdfast.ops.lease import heartbeat
        from langgraph_runtime_holdfast.ops.run_queue import claim
        from langgraph_runtime_holdfast.outbox import rows
        from langgraph_runtime_holdfast.store import Store

        async def begun() -> tuple[int, int, int]:
            crons = [each async for each in Crons.next(handle)]
            return len(await claim(10)), len(await rows.claim(handle, 10, [])), len(crons)

        await handle.execute(EXPIRED)
        assert await begun() == (0, 0, 0)
        assert await rows.sweep(handle, 10) == 0
        assert await Store().sweep_ttl() == 0
        # What is backed up from it is paused as well, also if it is not asked for.
        again, manifest = await in_thread(backup, uri, folder.parent / "again", jobs=1)
        assert manifest.is_paused
        assert (await in_thread(restore, again, into(services), Wishes())).is_paused
        assert await in_thread(resume, uri) == (True, 1)
        assert await in_thread(resume, uri) == (False, 1)
        assert await begun() == (2, 1, 1)
        assert await rows.sweep(handle, 10) == 1
        assert await Store().sweep_ttl() == 1
        await in_thread(begin_pause, uri, "a test")
        assert (await handle.fetch_one("SELECT reason FROM holdfast_pause")) == {"reason": "a test"}
        heartbeat().end()
    assert await in_thread(adopt, uri, paused=False) == 2
    assert it(uri, "SELECT count(*) AS it FROM holdfast_pause") == 0


async def test_dates_missed_in_a_long_pause_fire_once_or_not_at_all(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = into(services)
    async with engine_pool(uri, monkeypatch) as handle:
        from langgraph_runtime_holdfast.ops import Crons, crons

        said: list[dict[str, Any]] = []

        async def warn(_: str, **about: Any) -> None:
            said.append(about)

        monkeypatch.setattr(crons.logger, "awarning", warn)
        await handle.execute(MISSED)

        async def fired() -> list[str]:
            names = []
            async for cron in Crons.next(handle):
                names.append(cron["metadata"]["name"])
                await Crons.set_next_run_date(
                    handle, cron["cron_id"], next_date(cron["schedule"], cron["timezone"])
                )
            return names

        for skips, expected in ((False, ["January", "July"]), (True, [])):
            await handle.execute("UPDATE cron SET next_run_date = now() - interval '3000 days'")
            await in_thread(begin_pause, uri, "for days")
            assert await fired() == []
            assert await in_thread(resume, uri, skips_crons=skips) == (True, 2)
            assert sorted(await fired()) == expected
            assert await fired() == []
            late = await handle.fetch("SELECT 1 FROM cron WHERE enabled AND next_run_date <= now()")
            assert [row for row in late if not expected] == []
        # One line for each, which says how late it is.
        assert [about["late_seconds"] // 86400 for about in said] == [3000, 3000]
        zoned = "SELECT extract(hour FROM next_run_date AT TIME ZONE 'Asia/Tokyo')::int AS it FROM cron"
        assert {row["it"] for row in await handle.fetch(zoned + " WHERE timezone IS NOT NULL")} == {4}


async def in_thread(work: Any, *arguments: Any, **options: Any) -> Any:
    """What runs an event loop of its own."""
    return await asyncio.to_thread(work, *arguments, **options)


def test_what_would_do_harm_is_refused_and_changes_nothing(
    services: Services, world: str, backed_up: tuple[Path, Manifest], tmp_path: Path
) -> None:
    folder, manifest = backed_up
    with pytest.raises(EngineError, match=r"is not empty: it has [\w.]+ and \d+ more.*--replace"):
        restore(folder, world, Wishes())
    uri = into(services)
    with (
        psycopg.connect(uri, application_name="somebody"),
        pytest.raises(EngineError, match=r"in use: 1 of somebody.*--in-use"),
    ):
        restore(folder, uri, Wishes())
    with pytest.raises(EngineError, match="no schema of this engine"):
        backup(uri, tmp_path, jobs=1)
    assert not list(tmp_path.iterdir()), "nothing is left of a backup that failed"

    newer = tmp_path / "newer"
    shutil.copytree(folder, newer)
    later = replace(manifest.migrations[-1], version=999, minimum_version=999)
    replace(manifest, migrations=[*manifest.migrations, later]).write(newer)
    with pytest.raises(EngineError, match=r"for engines that know 999.*newer engine"):
        restore(newer, uri, Wishes())
    manifest.write(newer)
    damaged = max((newer / DUMP).iterdir(), key=lambda path: path.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    for attempt in (lambda: restore(newer, uri, Wishes()), lambda: verify(newer)):
        with pytest.raises(EngineError, match=rf"is damaged: dump/{damaged.name} is not as it was"):
            attempt()
    text = (newer / FILE).read_text()
    for damage in ("[]", "null", text.replace('"migrations": [', '"migrations": 1, "a": ['), text[:-9]):
        (newer / FILE).write_text(damage)
        with pytest.raises(EngineError, match=f"{FILE} (is damaged|cannot be read): "):
            read_manifest(newer)
    with pytest.raises(EngineError, match=f"not a backup: it has no {FILE}"):
        read_manifest(tmp_path)
    assert ask(uri, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == []


async def test_a_restore_that_broke_off_is_taken_by_no_server(
    services: Services, backed_up: tuple[Path, Manifest], tmp_path: Path
) -> None:
    folder, manifest = backed_up
    short = tmp_path / "short"
    await in_thread(shutil.copytree, folder, short)
    replace(manifest, tables={**manifest.tables, "public.thread": 3}).write(short)
    uri = into(services)
    with pytest.raises(EngineError, match=r"not whole; no server takes it.*thread has 2 rows.* had 3"):
        await in_thread(restore, short, uri, Wishes())
    with pytest.raises(EngineError, match="is not this engine's"):
        await migrate(uri, timeout_seconds=5)
    for attempt in (resume, adopt):
        with pytest.raises(EngineError, match="or not all of a backup"):
            await in_thread(attempt, uri, **({"paused": False} if attempt is adopt else {}))
    # Killed when all was there but nothing was settled.
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(TABLES)
        connection.execute("INSERT INTO holdfast_migration VALUES (1, 'initial')")
    with pytest.raises(EngineError, match="broke off at its end"):
        await in_thread(resume, uri)
    assert await in_thread(adopt, uri, paused=False) == 1
    assert (await in_thread(restore, folder, uri, Wishes(replaces=True))).running == 1


async def test_a_backup_of_the_schema_before_is_migrated(services: Services, tmp_path: Path) -> None:
    uri, older = into(services), into(services)
    await migrate(older, timeout_seconds=30)
    with psycopg.connect(older, autocommit=True) as connection:
        connection.execute("DROP TABLE holdfast_pause")
        connection.execute("DELETE FROM holdfast_schema")
    folder, manifest = await in_thread(backup, older, tmp_path, jobs=1)
    assert manifest.version == 5
    done = await in_thread(restore, folder, uri, Wishes(paused=True))
    assert "0006_pause" in done.applied
    assert it(uri, "SELECT count(*) AS it FROM holdfast_pause") == 1


def test_the_password_may_be_where_libpq_looks_for_it(
    services: Services, world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, password = world.removeprefix("postgresql://").split("@")[0].split(":")
    monkeypatch.setenv("PGPASSWORD", password)
    folder, _ = backup(world.replace(f"{user}:{password}", user), tmp_path, jobs=1)
    assert restore(folder, into(services).replace(f"{user}:{password}", user), Wishes()).running == 1


def test_a_table_that_is_locked_for_long_ends_the_backup(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dump, "_LOCK_WAIT", "2s")
    with psycopg.connect(world) as connection:
        connection.execute("LOCK TABLE assistant_version IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(EngineError, match="lock timeout"):
            backup(world, tmp_path, jobs=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
def test_of_a_backup_that_was_cut_off_nothing_stays(world: str, tmp_path: Path, end: signal.Signals) -> None:
    """pg_dump waits for a lock until the first is ended; it outlives its parent if that is killed."""
    command = [sys.executable, "-m", "langgraph_runtime_holdfast", "backup", "backups"]
    with psycopg.connect(world) as connection:
        connection.execute("LOCK TABLE assistant_version IN ACCESS EXCLUSIVE MODE")
        cut_off = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "DATABASE_URI": world})
        while not (left := list(tmp_path.glob("backups/*.unfinished"))):
            assert cut_off.poll() is None
            time.sleep(0.1)
        time.sleep(1.0)
        cut_off.send_signal(end)
        cut_off.wait(30)
        assert left[0].exists() is (end is signal.SIGKILL)
        if end is signal.SIGKILL:
            with unfinished(tmp_path / "backups" / "holdfast-1Z"):
                assert left[0].exists(), "pg_dump writes to it"
    while any((tmp_path / "backups").iterdir()):
        with unfinished(tmp_path / "backups" / "holdfast-1Z"):
            time.sleep(0.1)


def test_the_commands_tell_no_secret_and_say_what_is_in_a_backup(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pg_dump that notes how it was called stands before the real one."""
    real = programs.find_program("pg_dump", 18).path
    spy = tmp_path / "bin" / "pg_dump"
    spy.parent.mkdir()
    spy.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\nexec {real} "$@"\n')
    spy.chmod(0o700)
    (spy.parent / "pg_restore").symlink_to(real.with_name("pg_restore"))
    password = world.split("@", 1)[0].rsplit(":", 1)[1]

    def holdfast(*arguments: str) -> subprocess.CompletedProcess[str]:
        given = {**os.environ, "DATABASE_URI": world, programs.FOLDER: str(spy.parent)}
        command = [sys.executable, "-m", "langgraph_runtime_holdfast", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, check=False)

    ended = holdfast("backup", "--verify", "--json")
    assert ended.returncode == 0, ended.stderr
    assert "--snapshot=" in (tmp_path / "called").read_text()
    assert password not in (tmp_path / "called").read_text() + ended.stdout
    made = json.loads(ended.stdout)["backup"]
    listed = holdfast("restore", "backups", "--list").stdout
    assert made in listed
    assert "recovery point" in listed
    assert "2 runs, 1 callbacks to send" in listed
    # One that is older than the server.
    spy.write_text('#!/bin/sh\necho "pg_dump (PostgreSQL) 13.2"\n')
    monkeypatch.setenv(programs.FOLDER, str(spy.parent))
    with pytest.raises(EngineError, match=f"pg_dump of version 18 or newer is needed, and {spy} is 13"):
        backup(world, tmp_path / "other", jobs=1)
    assert not list((tmp_path / "other").glob("*"))
