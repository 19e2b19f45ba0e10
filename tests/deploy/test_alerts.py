"""Each alert holds in its fault, and every query of the dashboard has data: a real Prometheus, real servers.

How long a fault must last before somebody is called is for `promtool`; here its expression has to hold. Where
it compares an age with minutes, the row in question is made that old.
"""

from __future__ import annotations

import concurrent.futures
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from langgraph_runtime_holdfast.backup.settle import begin_pause, resume
from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.postgres import EmbeddedPostgres
from langgraph_runtime_holdfast.local.valkey import EmbeddedValkey
from tests.contract.callback_rig import running_receiver
from tests.contract.engines import GRAPHS, environment
from tests.deploy.eyes import PACKAGE, Prometheus, queries, rules, running_prometheus

WAIT_SECONDS = 60.0
UNLUCKY = """
import psycopg
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

class State(TypedDict, total=False):
    text: str

async def call(state: State) -> State:
    raise psycopg.OperationalError("the connection was lost")

graph = StateGraph(State).add_node("call", call).add_edge(START, "call").add_edge("call", END).compile()
"""
GIVEN = {
    "HOLDFAST_LEASE_SECONDS": "2",
    "HOLDFAST_POOL_TIMEOUT_SECONDS": "1",
    "LANGGRAPH_POSTGRES_POOL_MAX_SIZE": "8",
    "BG_JOB_MAX_RETRIES": "6",
}


class Site:
    """An API server, two queues, and what watches them."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        """Start them all."""
        self.folder = folder
        shutil.copytree(GRAPHS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "unlucky.py").write_text(UNLUCKY)
        manifest = json.loads((folder / "langgraph.json").read_text())
        manifest["graphs"]["unlucky"] = "./unlucky.py:graph"
        (folder / "langgraph.json").write_text(json.dumps(manifest))
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.valkey = EmbeddedValkey(folder / "valkey")
        for service in (self.postgres, self.valkey):
            held.callback(service.stop)
            service.start()
            service.wait_until_ready()
        self._held = held
        self.targets: list[str] = []
        self.api_process = self.serve("--role", "api")
        self.queues = [self.serve("--role", "queue", "--jobs", "4") for _ in range(2)]
        self.api = held.enter_context(httpx.Client(base_url=f"http://{self.targets[0]}", timeout=60))
        self.database = held.enter_context(psycopg.connect(self.postgres.uri, autocommit=True))
        self.prometheus: Prometheus = held.enter_context(running_prometheus(folder / "prom", self.targets))

    def serve(self, *options: str) -> psutil.Process:
        port = choose_ports({"PORT": 0})["PORT"]
        given = GIVEN | {"DATABASE_URI": self.postgres.uri, "REDIS_URI": self.valkey.uri}
        with (self.folder / f"server-{port}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "langgraph_runtime_holdfast", "serve", "--port", str(port), *options],
                cwd=self.folder,
                env=environment(**given),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

        def end() -> None:
            process.kill()
            process.wait()

        self._held.callback(end)
        target = f"127.0.0.1:{port}"
        wait_for(lambda: is_ready(target), "the server is ready")
        self.targets.append(target)
        return psutil.Process(process.pid)

    def start(self, graph: str, given: object, **more: object) -> tuple[str, str]:
        thread = self.api.post("/threads", json={}).raise_for_status().json()["thread_id"]
        body = {"assistant_id": graph, "input": given, **more}
        run = self.api.post(f"/threads/{thread}/runs", json=body).raise_for_status().json()
        return thread, run["run_id"]

    def worker_of(self, run_id: str) -> psutil.Process:
        """The queue that works on a run, once one does."""

        def leased() -> int | None:
            row = self.database.execute(
                "SELECT leased_by FROM run_inflight WHERE run_id = %s AND status = 'running'", [run_id]
            ).fetchone()
            return int(row[0].split(":")[1]) if row and row[0] else None

        return psutil.Process(wait_for(leased, "a worker has the run"))

    def alerts(self, name: str) -> None:
        """Wait for an alert."""
        wait_for(lambda: name in self.prometheus.alerts(), f"{name} holds", lambda: self.prometheus.alerts())

    def silent(self, name: str) -> None:
        """Wait for its end."""
        wait_for(lambda: name not in self.prometheus.alerts(), f"{name} holds no more")

    @contextmanager
    def stopped(self, process: psutil.Process) -> Iterator[None]:
        """A process, and those below it, that stand still."""
        all_of_it = [process, *process.children(recursive=True)]
        for each in all_of_it:
            each.suspend()
        try:
            yield
        finally:
            for each in all_of_it:
                each.resume()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if shutil.which("prometheus") is None:
        pytest.fail(PACKAGE)
    with ExitStack() as held:
        yield Site(tmp_path_factory.mktemp("eyes"), held)


def test_every_query_of_the_dashboard_has_data(site: Site) -> None:
    with running_receiver() as receiver:
        for number in range(6):
            body = {"assistant_id": "echo", "input": {"text": str(number)}}
            site.api.post("/runs/wait", json=body).raise_for_status()
            site.start("echo", {"text": "a"}, webhook=receiver.url("here"))
            time.sleep(1)  # several scrapes, so that there are rates
    missing: list[str] = []

    def all_answer() -> bool:
        site.start("echo", {"text": "again"})
        missing[:] = [name for name, query in queries().items() if not has_data(site.prometheus.ask(query))]
        return not missing

    wait_for(all_answer, "every query has data", lambda: missing)
    (ended,) = site.prometheus.ask('sum(lg_api_runs_ended_total{graph="echo", status="success"})')
    assert int(ended["value"][1]) >= 12
    wait_for(lambda: not site.prometheus.alerts(), "nothing is wrong", site.prometheus.alerts)


def test_runs_fail_and_are_retried(site: Site) -> None:
    for _ in range(3):
        for _ in range(4):
            site.start("failing", {"reason": "it is broken"})
        time.sleep(1.5)  # scrapes between, so that there is an increase
    site.alerts("HoldfastRunsFail")
    for _ in range(4):
        site.start("unlucky", {"text": "a"})
    site.alerts("HoldfastRunsRetried")


def test_callbacks_are_late_and_dead(site: Site) -> None:
    with running_receiver() as receiver:
        receiver.answers["gone"] = [(410, {})]
        receiver.answers["busy"] = [(503, {})] * 50
        site.start("echo", {"text": "a"}, webhook=receiver.url("gone"))
        site.alerts("HoldfastCallbacksDead")
        _, late = site.start("echo", {"text": "a"}, webhook=receiver.url("busy"))

        def made_old() -> bool:
            statement = "UPDATE outbox SET created_at = now() - interval '10 minutes' WHERE run_id = %s"
            return site.database.execute(statement, [late]).rowcount == 1

        wait_for(made_old, "the callback is in the outbox")
        site.alerts("HoldfastCallbacksLate")


def test_it_is_paused(site: Site) -> None:
    begin_pause(site.postgres.uri, "a test")
    site.alerts("HoldfastPaused")
    assert resume(site.postgres.uri)
    site.silent("HoldfastPaused")


def test_a_node_blocks_and_runs_wait(site: Site) -> None:
    release = site.folder / "release"
    blocked = [site.start("blocking", {"until": str(release)}) for _ in range(1)]
    first = site.worker_of(blocked[0][1])
    site.alerts("HoldfastJobLoopBlocked")
    # The other queue stands still, so that nobody is left.
    other = next(queue for queue in site.queues if queue.pid != first.pid)
    with site.stopped(other):
        _, run_id = site.start("echo", {"text": "a"})
        statement = "UPDATE run_inflight SET created_at = created_at - interval '1 minute', "
        statement += "updated_at = updated_at - interval '1 minute' WHERE run_id = %s AND status = 'pending'"
        wait_for(lambda: site.database.execute(statement, [run_id]).rowcount == 1, "it waits")
        site.alerts("HoldfastRunsWait")
        release.touch()
        site.silent("HoldfastJobLoopBlocked")


def test_saves_wait_for_a_lock_and_calls_for_a_connection(site: Site) -> None:
    _, run_id = site.start("slow", {"step_seconds": 1.0})
    site.worker_of(run_id)
    with psycopg.connect(site.postgres.uri) as locker:
        locker.execute("LOCK TABLE checkpoints IN EXCLUSIVE MODE")
        site.alerts("HoldfastSavesLag")
    with psycopg.connect(site.postgres.uri) as locker, concurrent.futures.ThreadPoolExecutor(24) as callers:
        locker.execute("LOCK TABLE thread IN ACCESS EXCLUSIVE MODE")
        for _ in range(24):
            callers.submit(lambda: site.api.post("/threads", json={}))
        site.alerts("HoldfastPoolExhausted")
        locker.rollback()


def test_a_process_stands_still(site: Site) -> None:
    with site.stopped(site.api_process):
        time.sleep(2.0)  # the fault: it does nothing for so long
    site.alerts("HoldfastApiLoopLag")
    _, run_id = site.start("slow", {"step_seconds": 3.0})
    with site.stopped(site.worker_of(run_id)):
        time.sleep(3.0)  # longer than a lease
    site.alerts("HoldfastLeasesLapse")


def test_valkey_and_postgres_go(site: Site) -> None:
    site.valkey.stop()
    site.alerts("HoldfastValkeyDown")
    main = psutil.Process(int((site.postgres.data / "postmaster.pid").read_text().split("\n", 1)[0]))
    with site.stopped(main):
        site.alerts("HoldfastPostgresDown")
    site.silent("HoldfastPostgresDown")


def test_workers_die(site: Site) -> None:
    _, run_id = site.start("slow", {"step_seconds": 30.0})
    first = site.worker_of(run_id)
    os.kill(first.pid, signal.SIGKILL)
    site.alerts("HoldfastDown")
    site.alerts("HoldfastWorkersDie")
    second = wait_for(lambda: other_than(first, site.worker_of(run_id)), "another worker has the run")
    os.kill(second.pid, signal.SIGKILL)
    site.alerts("HoldfastRunsOrphaned")


def test_each_alert_has_had_its_fault() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert not [rule["alert"] for rule in rules() if f'site.alerts("{rule["alert"]}")' not in here]


def other_than(first: psutil.Process, now: psutil.Process) -> psutil.Process | None:
    return None if now.pid == first.pid else now


def has_data(result: list[dict[str, Any]]) -> bool:
    return any(not math.isnan(float(series["value"][1])) for series in result)


def is_ready(target: str) -> bool:
    try:
        return httpx.get(f"http://{target}/ok?check_db=1", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def wait_for(condition: Callable[[], Any], what: str, seen: Callable[[], object] = lambda: "") -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS} s: {what}; {seen()}"
        time.sleep(0.2)
    return found
