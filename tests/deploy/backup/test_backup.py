"""A deployment that is backed up under load, destroyed and restored; and its copy, which keeps still."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.backup.worlds import Worlds, holdfast, recovery_point, until
from tests.faults.rig.postgres import Postgres
from tests.faults.rig.server import GRAPHS

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]
CRON = {"assistant_id": "steps", "schedule": "* * * * * */1", "input": {"node_seconds": 0}}
UNDER_WAY = "SELECT count(*) FROM run_inflight"
RUNNING = "SELECT count(*) FROM run_inflight WHERE status = 'running'"
BEGUN = """
SELECT (SELECT count(*) FROM run), (SELECT coalesce(sum(attempt), 0) FROM run_inflight),
       (SELECT coalesce(sum(attempts), 0) FROM outbox), (SELECT max(next_run_date) FROM cron)
"""
# The queue, the scheduler and the deliverer look every second.
LOOKED = "SELECT now() > '{since}'::timestamptz + interval '5 seconds'"


async def test_what_was_acknowledged_comes_back_and_a_copy_keeps_still(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path / "postgres")
    await postgres.start()
    worlds = Worlds(tmp_path)
    try:
        async with worlds.open():
            await _scenario(postgres, worlds, tmp_path)
    finally:
        await postgres.stop()


async def _scenario(postgres: Postgres, worlds: Worlds, folder: Path) -> None:
    world = worlds.make(postgres.uri)
    await world.server.start()
    await world.server.wait_until_ready()
    cron = await world.call("POST", "/runs/crons", CRON)

    # Callbacks of some runs wait when the backup is made: the receiver does not answer.
    async with world.load():
        await until("some callbacks have come", lambda: _more(lambda: len(world.receiver.arrived()), 8))
        world.receiver.speaks.clear()
        heard = world.receiver.heard
        await until("callbacks hang", lambda: _more(lambda: world.receiver.heard, heard + 4))
        given = world.given
        said = await holdfast(given, "backup", str(folder / "backups"), "--jobs", "2", "--verify", "--json")
        seen = len(world.acknowledged)
        await until("more runs after the backup", lambda: _more(lambda: len(world.acknowledged), seen + 8))
    manifest = json.loads(said)
    assert manifest["in_flight"], "runs were under way"
    assert manifest["undelivered"], "callbacks were to be sent"
    point = recovery_point(said)
    kept = [handle for at, handle in world.acknowledged if at < point]
    lost = [handle for _, handle in world.acknowledged[seen:]]
    assert len(kept) > 8

    # Lost: the server and the whole database.
    await world.server.kill()
    world.receiver.speaks.set()
    name = postgres.uri.rsplit("/", 1)[1]
    async with await postgres.connect("postgres") as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        await connection.execute(f"CREATE DATABASE {name}".encode())
        await connection.execute(b"CREATE DATABASE copy")
    backup = manifest["backup"]
    await holdfast(given, "restore", backup, "--jobs", "2")
    assert await postgres.ask(RUNNING) == [(0,)]
    await world.server.start()
    await world.server.wait_until_ready()
    await world.until_all_are_done(kept)
    await world.until_all_are_told(kept)
    assert set(await world.statuses(lost)) == {"gone"}
    await world.call("DELETE", f"/runs/crons/{cron['cron_id']}")
    print(f"{len(kept)} runs before the recovery point all done and told; {len(lost)} after it gone")

    # A copy beside it, with the same receivers in its rows: it does nothing, however often it is started.
    before = world.receiver.arrived()
    copy = worlds.make(postgres.uri.rsplit("/", 1)[0] + "/copy")
    await holdfast(copy.given, "restore", backup, "--paused")
    # The new run of a paused deployment waits, as all others do.
    for _ in range(2):
        await copy.server.start()
        await copy.server.wait_until_ready()
        await until("/ok tells it", lambda: _is_told(copy.call))
        thread = (await copy.call("POST", "/threads", {}))["thread_id"]
        run = await copy.call("POST", f"/threads/{thread}/runs", {"assistant_id": "steps", "input": {}})
        begun = await _ask(postgres, BEGUN)
        [(now,)] = await _ask(postgres, "SELECT now()::text")
        looked = functools.partial(_is_so, postgres, LOOKED.format(since=now))
        await until("all have looked a few times", looked)
        assert await _ask(postgres, BEGUN) == begun
        assert copy.server.said("Paused: no run, cron, callback or sweep is begun")
        await copy.server.kill()
    assert world.receiver.arrived() == before
    # It has something to say of the suite's graphs as well.
    findings = json.loads(
        await holdfast(copy.given, "doctor", "--json", "--config", str(GRAPHS / "langgraph.json"), code=1)
    )
    [paused] = [each for each in findings if each["check"] == "pause"]
    assert paused["level"] == "warning"
    assert "holdfast resume" in paused["cure"]

    # Told to work, it sends what the backup had still to send.
    await copy.server.start()
    await copy.server.wait_until_ready()
    assert "the pause has ended" in await holdfast(copy.given, "resume")

    async def is_done() -> bool:
        found = await copy.call("GET", f"/threads/{thread}/runs/{run['run_id']}")
        return bool(found["status"] == "success")

    await until("what waited is done", is_done)
    await copy.until_all_are_done(kept)

    async def is_sent() -> bool:
        return bool(len(world.receiver.arrived() - before) >= manifest["undelivered"])

    await until("its callbacks are sent", is_sent)


async def _more(count: Any, wanted: int) -> bool:
    return bool(count() >= wanted)


async def _is_told(call: Any) -> bool:
    answer = await call("GET", "/ok?check_db=1")
    return bool(answer["ok"]) and "restored from the backup of" in str(answer.get("paused"))


async def _ask(postgres: Postgres, statement: str) -> Any:
    async with await postgres.connect("copy") as connection:
        return await (await connection.execute(statement.encode())).fetchall()


async def _is_so(postgres: Postgres, statement: str) -> bool:
    return bool(await _ask(postgres, statement) == [(True,)])
