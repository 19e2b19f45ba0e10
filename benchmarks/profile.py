"""`make bench PROFILE=1`: where server and client spend their time, and which statements a run costs.

py-spy looks at both from outside while fifty clients are served; then one is served while Postgres logs.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import psutil
import psycopg
import typer

from benchmarks import page
from benchmarks.client_process import ClientProcess, client_process
from benchmarks.measurement import Load
from benchmarks.profile_report import Cost, Profile
from benchmarks.servers import place_for, running_server
from benchmarks.services import Services, running_services
from benchmarks.setting import HOME, today, work_folder
from benchmarks.sides import SIDES, holdfast, running_side
from benchmarks.stacks import Share, shares
from benchmarks.statement_log import Statement, logged_statements, read_statements
from langgraph_runtime_holdfast.local.errors import LocalStackError

CASE = "thread_wait"
CLIENTS = 50
SECONDS = 10.0
LONGEST_TABLE = 15


def main() -> None:
    """Profile the default engine; writes .holdfast/bench/profile.json, flame graphs, and the page."""
    try:
        with work_folder() as folder, running_services(folder) as services, client_process() as client:
            stacks, per_second = _sample(services, client, folder)
            costs = _statements(services, client, folder)
    except LocalStackError as error:
        sys.exit(str(error))
    Profile(
        date=today(),
        clients=CLIENTS,
        per_second=per_second,
        packages={name: _largest(lines, by_package=True) for name, lines in stacks.items()},
        functions={name: _largest(lines, by_package=False) for name, lines in stacks.items()},
        statements=costs[:LONGEST_TABLE],
        statements_per_run=sum(cost.per_run for cost in costs),
        milliseconds_per_run=sum(cost.milliseconds_per_run for cost in costs),
    ).write()
    print(page.write_page())


def _largest(lines: Sequence[str], by_package: bool) -> list[Share]:
    return shares(lines, by_package=by_package)[:LONGEST_TABLE]


def _sample(services: Services, client: ClientProcess, folder: Path) -> tuple[dict[str, list[str]], float]:
    """Look at both processes twice, for the tables and for the flame graphs; returns the stacks."""
    raw = {"server": folder / "server.raw", "client": folder / "client.raw"}
    pictures = {name: HOME.resolve() / f"{name}.svg" for name in raw}
    with running_side(SIDES["shared"], services, folder, folder) as side:
        assert side.process is not None
        processes = {
            "server": psutil.Process(side.process).children()[0].pid,
            "client": client.process_id,
        }
        load = Load(side.target, CASE, CLIENTS, SECONDS, warm_up_seconds=3.0)
        rates = []
        for form, outputs in (("raw", raw), ("flamegraph", pictures)):
            spies = _Spies(form, {processes[name]: output for name, output in outputs.items()})
            seen = client.make(load, spies.at_edge)
            rates.append(seen.completed / seen.seconds)
    stacks = {name: path.read_text(encoding="utf-8").splitlines() for name, path in raw.items()}
    return stacks, median(rates)


class _Spies:
    """A py-spy for each process: started at the first edge of a load, waited for at the second."""

    def __init__(self, form: str, outputs: Mapping[int, Path]) -> None:
        self._form = form
        self._outputs = outputs
        self._spies: list[subprocess.Popen[bytes]] = []

    def at_edge(self) -> None:
        if self._spies:
            _wait(self._spies)
        else:
            self._spies = [self._start(process, output) for process, output in self._outputs.items()]

    def _start(self, process: int, output: Path) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(process)]
        # Only who holds the interpreter's lock: threads that wait would else count as busy.
        # A second less than the load, so that its end is not seen.
        options = ["--gil", "--full-filenames", "--duration", str(int(SECONDS) - 1)]
        return subprocess.Popen(  # noqa: S603 - a fixed program with our own arguments
            [*command, "--format", self._form, "--output", str(output), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )


def _wait(spies: Sequence[subprocess.Popen[bytes]]) -> None:
    for spy in spies:
        _, error = spy.communicate()
        if spy.returncode != 0:
            raise LocalStackError(
                f"py-spy cannot look at a process: {error.decode(errors='replace').strip()[-300:]} "
                "Run as root, or allow it with `sysctl kernel.yama.ptrace_scope=0`."
            )


def _statements(services: Services, client: ClientProcess, folder: Path) -> list[Cost]:
    """Have one client served alone by a server whose statements are logged; the dearest first."""
    database_uri = services.make_database("bench_statements")
    place = place_for("statements", folder, database_uri, services.valkey_uri, folder)
    with (
        logged_statements(services.postgres_uri, "bench_statements"),
        running_server("statements", place, holdfast(place)),
    ):
        # From here on: the start and its migrations are not what a run costs.
        offset = services.postgres_log.stat().st_size
        client.make(Load(place.url, CASE, 1, 5.0, warm_up_seconds=1.0), lambda: None)
        statements = read_statements(services.postgres_log, offset)
    with psycopg.connect(database_uri) as connection:
        row = connection.execute("SELECT count(*) FROM run").fetchone()
    assert row is not None
    return _costs(statements, runs=int(row[0]))


def _costs(statements: Sequence[Statement], runs: int) -> list[Cost]:
    by_text: defaultdict[str, list[float]] = defaultdict(list)
    for statement in statements:
        by_text[statement.text].append(statement.seconds)
    costs = [Cost(text, len(times) / runs, sum(times) * 1000 / runs) for text, times in by_text.items()]
    return sorted(costs, key=lambda cost: -cost.milliseconds_per_run)


if __name__ == "__main__":
    typer.run(main)
