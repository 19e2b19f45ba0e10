"""What KEDA asks Postgres, on the engine's schema: how many runs want a worker, how long one has waited."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from langgraph_runtime_holdfast.database import Handle
from tests.contract.engine_pool import engine_pool
from tests.contract.engine_rows import insert_run
from tests.contract.engines import Services

MANIFEST = Path(__file__).parents[2] / "deploy/kubernetes/components/autoscaling/queue.yaml"
CHANGE = """
UPDATE run_inflight SET created_at = now() + %(created)s * interval '1 second',
    updated_at = now() + %(updated)s * interval '1 second',
    available_at = coalesce(now() + %(available)s * interval '1 second', available_at), deaths = %(deaths)s
WHERE run_id = %(run_id)s
"""


def triggers() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all(MANIFEST.read_text())
    scaled = next(each for each in documents if each["kind"] == "ScaledObject")
    return {each["name"]: each for each in scaled["spec"]["triggers"]}


@pytest.fixture
async def handle(services: Services, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Handle]:
    async with engine_pool(services.make_database(f"scaling_{uuid.uuid4().hex[:8]}"), monkeypatch) as opened:
        yield opened


async def ask(handle: Handle) -> dict[str, float]:
    """As KEDA does: one row of one number."""
    found = {}
    for name, trigger in triggers().items():
        (row,) = await handle.fetch(trigger["metadata"]["query"])
        ((_, value),) = row.items()
        found[name] = float(value)
    return found


async def add(
    handle: Handle,
    age: float,
    *,
    thread: uuid.UUID | None = None,
    status: str = "pending",
    put_back: float | None = None,
    available: float | None = None,
    deaths: int = 0,
) -> None:
    run_id = await insert_run(
        handle, thread or uuid.uuid4(), status, token=1 if status == "running" else None
    )
    values = {"run_id": run_id, "created": -age, "updated": -(age if put_back is None else put_back)}
    await handle.execute(CHANGE, {**values, "available": available, "deaths": deaths})


async def test_work_and_its_age_are_of_runs_that_a_worker_could_take(handle: Handle) -> None:
    assert await ask(handle) == {"work": 0, "age": 0}
    thread = uuid.uuid4()
    await add(handle, 300, thread=thread, status="running")
    await add(handle, 290, thread=thread)  # behind it
    await add(handle, 40)
    await add(handle, 30)
    await add(handle, 3000, put_back=12)  # counts since it was put back
    await add(handle, 500, available=60)  # backs off
    await add(handle, -600)  # begins later
    await add(handle, 700, deaths=2)  # may be what kills workers: one at a time
    found = await ask(handle)
    assert found["work"] == 4
    assert 40 <= found["age"] <= 45
    # Once it is due, the back-off is over since then.
    await handle.execute(
        "UPDATE run_inflight SET available_at = now() - interval '55 seconds' WHERE available_at > now()"
    )
    found = await ask(handle)
    assert found["work"] == 5
    assert 55 <= found["age"] <= 60
    # Nobody may take any while the deployment is paused; what executes goes on.
    await handle.execute("INSERT INTO holdfast_pause (reason) VALUES ('a copy')")
    assert await ask(handle) == {"work": 1, "age": 0}


async def test_a_busy_fleet_is_kept_and_a_long_queue_of_one_thread_asks_for_one_worker(
    handle: Handle,
) -> None:
    for _ in range(20):
        await add(handle, 100, status="running")
    found = await ask(handle)
    pods = found["work"] / float(triggers()["work"]["metadata"]["targetQueryValue"])
    assert found["age"] == 0
    assert pods > 2
    thread = uuid.uuid4()
    for age in range(30, 0, -1):
        await add(handle, age, thread=thread)
    assert (await ask(handle))["work"] == found["work"] + 1


async def test_the_role_that_the_manifest_names_may_ask(handle: Handle) -> None:
    (grant,) = [part.strip() for part in MANIFEST.read_text().split(";") if part.strip().startswith("GRANT")]
    role = f"keda_{uuid.uuid4().hex[:8]}"
    await handle.execute(f"CREATE ROLE {role} CONNECTION LIMIT 4")
    await handle.execute(grant.removesuffix("keda") + role)
    await add(handle, 10)
    async with handle.transaction():
        await handle.execute(f"SET LOCAL ROLE {role}")
        assert (await ask(handle))["work"] == 1
    await handle.execute(f"DROP OWNED BY {role}")
    await handle.execute(f"DROP ROLE {role}")
