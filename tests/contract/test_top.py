"""`holdfast top` tells the same of the database and of a server, and says in one line what it cannot read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contract.api import Sdk, until
from tests.contract.engines import JOBS, SCRIPTS, Server, Services, environment


def top(folder: Path, *options: str, **given: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / "holdfast"), "top", "--once", *options]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(**given),
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )


@pytest.mark.parametrize("engine", ["holdfast"], indirect=True, scope="session")
async def test_it_shows_queue_workers_pools_and_callbacks(server: Server, sdk: Sdk, tmp_path: Path) -> None:
    assert server.database_uri is not None
    thread_id = (await sdk.threads.create())["thread_id"]
    run = await sdk.runs.create(thread_id, "slow", input={"step_seconds": 60.0})
    behind = await sdk.runs.create(thread_id, "slow", input={}, multitask_strategy="enqueue")

    def from_database() -> dict[str, Any]:
        done = top(tmp_path, "--json", DATABASE_URI=str(server.database_uri))
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout))

    def from_server() -> dict[str, Any]:
        done = top(tmp_path, "--json", "--url", server.url)
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout))

    try:

        async def runs() -> dict[str, Any] | None:
            told = from_database()
            return told if told["queue"]["running"] else None

        told = await until(runs, "the run is shown")
        assert [told["queue"][name] for name in ("pending", "orphaned", "paused")] == [1, 0, 0]
        assert told["queue"]["oldest_pending_seconds"] == 0, "it waits for its thread, not for a worker"
        (worker,) = told["workers"]
        assert worker["runs"] == 1
        assert worker["lease_left_seconds"] > 0
        assert sum(each["connections"] for each in told["pools"]) >= 1
        assert all(each["address"] for each in told["pools"]), "which servers are there, at work or not"
        assert set(told["callbacks"]) == {"pending", "oldest_seconds", "dead"}

        async def sampled() -> dict[str, Any] | None:
            shown = from_server()
            return shown if shown["queue"]["running"] else None

        shown = await until(sampled, "the server's page shows the run")
        assert shown["queue"] == {name: float(value) for name, value in told["queue"].items()}
        (process,) = shown["workers"]
        assert (process["runs"], process["slots"], process["blocked_loops"]) == (1, int(JOBS), 0)
        assert (shown["pools"][0]["postgres_up"], shown["pools"][0]["valkey_up"]) == (1, 1)

        drawn = top(tmp_path, DATABASE_URI=server.database_uri).stdout
        assert [name for name in ("queue", "callbacks", "workers", "pools") if name not in drawn] == []
    finally:
        for each in (behind, run):
            await sdk.runs.cancel(thread_id, each["run_id"], wait=True)


def test_it_says_in_one_line_what_it_cannot_read(services: Services, tmp_path: Path) -> None:
    done = top(tmp_path, "--url", "http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "cannot be read" in line
    private = top(tmp_path, "--url", "http://somebody:s3cret@127.0.0.1:9")
    assert "http://…@127.0.0.1:9/metrics cannot be read" in private.stderr
    assert "s3cret" not in private.stderr
    away = top(tmp_path, "--json", DATABASE_URI="postgresql://u@127.0.0.1:9/d")
    assert (away.returncode, json.loads(away.stdout)["error"]["type"]) == (5, "DatabaseAwayError")
    behind = top(tmp_path, DATABASE_URI=services.make_database("top_behind"))
    assert (behind.returncode, behind.stdout) == (2, "")
    assert "is behind this version" in behind.stderr
    assert "holdfast migrate" in behind.stderr
