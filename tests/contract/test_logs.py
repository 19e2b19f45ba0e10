"""The log with LOG_JSON: each line an object, and each line about a run with its ids."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.api import until
from tests.contract.callback_rig import running_receiver
from tests.contract.engines import GRAPHS, SCRIPTS, Services, environment, running_holdfast_server

REQUEST = "a-request-of-the-test"


@pytest.fixture(scope="module")
def logging_server(
    services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    home = tmp_path_factory.mktemp("logs")
    with running_holdfast_server(home, services, services.make_database("logs"), LOG_JSON="true") as url:
        yield url, home / "server.log"


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """What the log has so far; its last line may still be written."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


async def test_each_line_about_a_run_names_run_thread_and_request(logging_server: tuple[str, Path]) -> None:
    url, path = logging_server
    with running_receiver() as receiver:
        async with httpx.AsyncClient(base_url=url, headers={"x-request-id": REQUEST}, timeout=30) as http:
            thread_id = (await http.post("/threads", json={})).json()["thread_id"]
            body = {
                "assistant_id": "failing",
                "input": {"reason": "it is broken"},
                "webhook": receiver.url("here"),
            }
            run_id = (await http.post(f"/threads/{thread_id}/runs", json=body)).json()["run_id"]
            await http.get(f"/threads/{thread_id}/runs/{run_id}/join")

        async def delivered() -> bool:
            return "Delivered a callback" in path.read_text()

        await until(delivered, "the callback is delivered")
    lines = whole_lines(path)
    about = [line for line in lines if run_id in json.dumps(line)]
    told = {line["event"].split(":")[0].split(".")[0] for line in about}
    assert {"Starting background run", "Delivered a callback"} <= told
    for line in about:
        ids = (line.get("run_id"), line.get("thread_id"), line.get("request_id"))
        assert ids == (run_id, thread_id, REQUEST), line
    assert {"event", "level", "logger", "timestamp"} <= set.intersection(*(set(line) for line in lines))


async def test_a_request_id_that_is_no_text_costs_no_request(logging_server: tuple[str, Path]) -> None:
    url, path = logging_server
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        long = (b"x" * 6000, "x" * 128)
        for given, shown in ((b"caf\xe9", "caf\\xe9"), ("café".encode(), "café"), long):
            answer = await http.post("/threads", json={}, headers={b"x-request-id": given})
            assert answer.status_code == 200, answer.text
            thread_id = answer.json()["thread_id"]
            await http.get(f"/threads/{thread_id}", headers={b"x-request-id": given})

            async def is_shown(thread_id: str = thread_id, shown: str = shown) -> bool:
                about = [line for line in whole_lines(path) if thread_id in json.dumps(line)]
                return any(line.get("request_id") == shown for line in about)

            # The line is written once the answer is.
            await until(is_shown, f"the log has {shown}")


def test_what_migrations_say_is_an_object_a_line(services: Services, tmp_path: Path) -> None:
    uri = services.make_database("logs_migrate")
    shutil.copytree(GRAPHS, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for said in ("applied 0001_initial", "the schema is up to date"):
        done = subprocess.run(
            [str(SCRIPTS / "holdfast"), "migrate"],
            cwd=tmp_path,
            env=environment(DATABASE_URI=uri, LOG_JSON="true"),
            capture_output=True,
            text=True,
            timeout=150,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]
        assert said in [line["event"] for line in lines]
