"""`holdfast capacity`: the model of waiting against a simulation, and the plan against the manifests."""

from __future__ import annotations

import json
import math
import random
import re
import statistics
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks.cost_fit import fitted
from langgraph_runtime_holdfast import valkey
from langgraph_runtime_holdfast.capacity.answer import answer
from langgraph_runtime_holdfast.capacity.connections import OTHERS, RESERVED, connections_of
from langgraph_runtime_holdfast.capacity.measured import OURS, Cell, Figures, read_measured
from langgraph_runtime_holdfast.capacity.overlays import OVERLAYS, fits
from langgraph_runtime_holdfast.capacity.plan import MOST_SERVERS, SHARDS, SLOTS_BUSY, Load, plan_for
from langgraph_runtime_holdfast.capacity.waiting import Slots, fewest
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.settings import EngineSettings
from sdk_client.cli.main import app
from tests.unit import test_kubernetes_connections as manifests
from tests.unit.kubernetes_render import MANIFESTS, find, needs_kubectl, pod, settings_of
from tests.unit.queue_simulation import SERVICES, part, simulate

MEASURED = read_measured()
COUNT = 100_000


@pytest.mark.parametrize(("slots", "busy"), [(1, 0.5), (10, 8), (100, 90), (170, 165)])
def test_the_model_is_erlangs_formula(slots: int, busy: float) -> None:
    # As textbooks have it, which no floating-point number could hold.
    offered = Fraction(busy)
    full = offered**slots / math.factorial(slots) * slots / (slots - offered)
    others = sum(offered**number / math.factorial(number) for number in range(slots))
    model = Slots(slots, busy * 10, 0.1)
    assert model.chance_to_wait == pytest.approx(float(full / (others + full)), rel=1e-9)
    wait = model.wait_seconds(0.95)
    left = model.chance_to_wait * math.exp(-(slots - busy) * wait / 0.1)
    assert left == pytest.approx(0.05) or (wait == 0 and left <= 0.05)


def test_a_queue_that_only_grows_is_told_as_such() -> None:
    assert Slots(10, 10, 1).wait_seconds(0.5) == math.inf
    assert Slots(20_000, 9_900, 2).chance_to_wait < 0.2


@pytest.mark.parametrize(("slots", "load"), [(4, 0.7), (10, 0.8), (40, 0.85)])
def test_the_model_agrees_with_a_simulation(slots: int, load: float) -> None:
    model = Slots(slots, load * slots, 1.0)
    seen = simulate(slots, load, SERVICES["exponential"], count=COUNT, seed=slots)
    assert statistics.fmean(seen) == pytest.approx(model.mean_wait_seconds, rel=0.15)
    assert part(seen, 0.95) == pytest.approx(model.wait_seconds(0.95), rel=0.15)
    assert sum(each > 0 for each in seen) / len(seen) == pytest.approx(model.chance_to_wait, rel=0.1)


@pytest.mark.parametrize(
    "load", [Load(3, 2, wait_seconds=0.5), Load(400, 0.5), Load(50, 60, wait_seconds=10)]
)
def test_slots_are_as_few_as_keep_the_goal(load: Load) -> None:
    count = fewest(load.runs_per_second, load.seconds_per_run, load.wait_seconds, step=load.jobs)

    def p95(queues: int) -> float:
        return Slots(queues * load.jobs, load.runs_per_second, load.seconds_per_run).wait_seconds(0.95)

    assert p95(count) <= load.wait_seconds
    assert count == 1 or p95(count - 1) > load.wait_seconds
    servers = plan_for(load, MEASURED).servers
    # Also with one away, and never nearer to the edge than the autoscaler is told to go.
    assert servers.wait_p95_seconds_with_one_away <= load.wait_seconds
    assert servers.load <= SLOTS_BUSY


def test_what_a_run_costs_is_near_what_was_measured() -> None:
    for cell in MEASURED.cells:
        cost = MEASURED.cost(cell.steps, cell.kilobytes)
        for name in Figures.model_fields:
            told, seen = getattr(cost, name), getattr(cell, name)
            # Times of short runs are a few ticks of a clock of 10 ms.
            assert told == pytest.approx(seen, rel=0.6, abs=2.0), (name, cell.steps, cell.kilobytes)
        assert cost.wal_bytes == pytest.approx(cell.wal_bytes, rel=0.35)
        assert cost.kept_bytes == pytest.approx(cell.kept_bytes, rel=0.35)
    # Each run wakes every queue: the looks of three are three times those of one.
    assert MEASURED.looks_a_run[3] / MEASURED.looks_a_run[1] == pytest.approx(3, rel=0.3)


def test_the_cost_of_looking_grows_with_what_executes_and_with_queues() -> None:
    assert (
        MEASURED.claim(20_000).postgres_ms
        > MEASURED.claim(10_000).postgres_ms
        > MEASURED.claim(0).postgres_ms
    )
    few, many = (plan_for(Load(300, 2, jobs=jobs), MEASURED).postgres for jobs in (40, 10))
    assert many.cores_for_looks > 2 * few.cores_for_looks
    assert many.cores_busy - many.cores_for_looks == pytest.approx(
        few.cores_busy - few.cores_for_looks, rel=0.1
    )


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda each: each.name)
def test_the_overlays_are_as_the_command_takes_them(overlay: object) -> None:
    ours = next(each for each in OVERLAYS if each is overlay)
    most, settings = manifests.most(ours.name), settings_of(ours.name)
    assert (ours.api, ours.queue) == (most["api"], most["queue"])
    assert ours.max_connections == manifests._max_connections(ours.name)
    computed = connections_of(
        ours.api, ours.queue, int(settings["N_JOBS_PER_WORKER"]), pgbouncer=ours.pgbouncer
    )
    assert computed.servers == int(settings["HOLDFAST_REPLICAS"])
    # Enough, and not so much that one of the two must be wrong.
    assert computed.max_connections <= ours.max_connections <= computed.max_connections + 50
    if ours.pgbouncer:
        assert computed.pgbouncer is not None
        told, pooler = manifests._pgbouncer(), find(ours.name, "Deployment", "pgbouncer")
        assert computed.pgbouncer.count == pooler["spec"]["replicas"]
        assert computed.pgbouncer.default_pool_size == int(told["default_pool_size"])
        assert computed.pgbouncer.max_client_conn == int(told["max_client_conn"])
    if ours.name == "small":
        claim = find("small", "StatefulSet", "postgres")["spec"]["volumeClaimTemplates"][0]
        size = claim["spec"]["resources"]["requests"]["storage"]
        valkey = str(pod("small", "valkey")["containers"])
    elif ours.name == "ha":
        size = find("ha", "Cluster", "postgres")["spec"]["storage"]["size"]
        valkey = (MANIFESTS / "overlays" / "ha" / "valkey.sh").read_text()
    else:
        return
    assert size == f"{ours.disk_gib}Gi"
    assert f"maxmemory {ours.valkey_mb}mb" in valkey


@needs_kubectl
def test_the_assumptions_are_those_of_the_manifests() -> None:
    assert OTHERS == 2 * 2 * manifests.OF_A_RECEIVER + manifests.OF_A_MIGRATION + manifests.OF_KEDA
    assert RESERVED == manifests.RESERVED
    scaler = find("large", "ScaledObject", "queue")["spec"]["triggers"][0]["metadata"]["targetQueryValue"]
    assert float(scaler) / int(settings_of("large")["N_JOBS_PER_WORKER"]) == SLOTS_BUSY


def test_the_bounds_are_those_of_the_engine() -> None:
    bounds = EngineSettings.model_fields["replicas"].metadata
    assert [each.le for each in bounds if hasattr(each, "le")] == [MOST_SERVERS]
    assert valkey.SHARDS == SHARDS


def test_the_smallest_overlay_that_fits_is_told_and_what_the_others_lack() -> None:
    def fitting(load: Load) -> list[str]:
        return [fit.overlay for fit in fits(plan_for(load, MEASURED)) if fit.fits]

    assert fitting(Load(1, 2, keep_days=0.5)) == ["small", "ha", "large"]
    assert fitting(Load(8, 4, keep_days=0.1)) == ["ha", "large"]
    assert fitting(Load(20, 6, keep_days=0.1)) == ["large"]
    (small, _, large) = fits(plan_for(Load(50, 10, keep_days=0.1), MEASURED))
    assert any(re.fullmatch(r"\d+ of queue \(it has 1\)", each) for each in small.lacks)
    assert not large.fits


def run(*options: str) -> int:
    given = ["capacity", *options]
    return int(app(given, prog_name="holdfast", standalone_mode=False) or 0)


def test_the_command_tells_people_and_programs_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load = ("--runs-per-second", "20", "--seconds-per-run", "3")
    assert run(*load, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert run(*load) == 0
    drawn = capsys.readouterr().out
    assert f"max_connections          {told['connections']['max_connections']} " in drawn
    assert f"{told['servers']['queue']} x 10 slots" in drawn
    assert MEASURED.source.machine.split(";")[0] in " ".join(drawn.split())
    # People's own figures: the same with a Postgres that takes ten times as long.
    own = json.loads(OURS.read_text())
    for part_of_it in ("of_run", "of_step", "of_kilobyte"):
        own[part_of_it]["postgres_ms"] *= 10
    file = tmp_path / "own.json"
    file.write_text(json.dumps(own))
    assert run(*load, "--measured", str(file), "--json") == 0
    slower = json.loads(capsys.readouterr().out)["postgres"]
    assert slower["ms_per_run"] > 5 * told["postgres"]["ms_per_run"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--runs-per-second", "0"), "--runs-per-second is 0; it is from 0.001"),
        (("--seconds-per-run", "-1"), "--seconds-per-run is -1"),
        (("--runs-per-second", "nan"), "--runs-per-second is nan"),
        (("--runs-per-second", "90000", "--seconds-per-run", "3600"), "at once; up to 500,000"),
        (("--own-ms", "9000"), "--own-ms is 9000: more than the 2 s that a run takes"),
        (("--average", "11"), "--average is 11; it is from 0 to 10"),
        (("--measured", "nowhere.json"), "nowhere.json cannot be read: No such file"),
        (("--measured", __file__), "is not what `python -m benchmarks.cost` writes: it: invalid json"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--runs-per-second", "10", "--seconds-per-run", "2", *options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_file_of_another_shape_is_named_with_its_place(tmp_path: Path) -> None:
    own = json.loads(OURS.read_text())
    own["of_step"]["wal_bytes"] = -1
    (tmp_path / "own.json").write_text(json.dumps(own))
    with pytest.raises(EngineError, match=r"of_step\.wal_bytes"):
        read_measured(tmp_path / "own.json")


def test_a_burst_of_a_million_runs_is_divided_among_deployments() -> None:
    found = answer(Load(50_000, 1.0, jobs=40, keep_days=1), MEASURED)
    assert found.deployments > 1
    assert not found.plan.beyond()
    assert str(found.deployments) in found.remarks[0]


def test_the_simulation_is_of_services_of_a_second() -> None:
    chance = random.Random(5)  # noqa: S311 - a simulation
    for service in SERVICES.values():
        assert statistics.fmean(service(chance) for _ in range(COUNT)) == pytest.approx(1.0, rel=0.03)


def test_costs_that_are_a_sum_of_three_are_found_again() -> None:
    def figures(value: float) -> Figures:
        return Figures(**dict.fromkeys(Figures.model_fields, value))

    known = MEASURED.model_copy(
        update={"of_run": figures(4.0), "of_step": figures(0.5), "of_kilobyte": figures(0.02)}
    )
    cells = [
        Cell(steps=steps, kilobytes=kilobytes, runs=9, **known.cost(steps, kilobytes).model_dump())
        for steps in (2, 5, 10)
        for kilobytes in (1, 20, 500)
    ]
    for found, value in zip(fitted(cells), (4.0, 0.5, 0.02), strict=True):
        assert found.model_dump() == pytest.approx(figures(value).model_dump())
