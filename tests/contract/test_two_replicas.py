"""Two servers on one database behave as one; and one that is started again knows what the first knew."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError

from langgraph_runtime_holdfast.loop_watchdog import BLOCKED_SECONDS
from tests.contract.api import Sdk, statuses, thread_after, until, until_status, values_of
from tests.contract.conftest import plain_http
from tests.contract.engines import Services, running_holdfast_server

pytestmark = pytest.mark.parametrize("engine", ["holdfast"], indirect=True)

# What is wrong once in a hundred shows among so many; the suite that breaks things looks longer.
WAITS = 2000 if os.environ.get("FAULTS") == "all" else 600
AT_ONCE = 50


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The working directories of two servers, with their logs."""
    return [tmp_path_factory.mktemp(f"replica-{name}") for name in "ab"]


@pytest.fixture(scope="module")
def replica_urls(engine: str, services: Services, homes: list[Path]) -> Iterator[tuple[str, str]]:
    """The addresses of two servers on one database."""
    database_uri = services.make_database("replicas")
    with (
        running_holdfast_server(homes[0], services, database_uri) as first,
        running_holdfast_server(homes[1], services, database_uri) as second,
    ):
        yield first, second


@pytest.fixture
async def replicas(replica_urls: tuple[str, str]) -> AsyncIterator[tuple[Sdk, Sdk]]:
    """The two servers, each by the stock SDK."""
    async with plain_http(replica_urls[0]) as first, plain_http(replica_urls[1]) as second:
        yield LangGraphClient(first), LangGraphClient(second)


async def test_waits_and_joins_through_either_are_whole(
    replicas: tuple[Sdk, Sdk],
) -> None:
    places = asyncio.Semaphore(AT_ONCE)
    wrong: list[str] = []

    async def one(number: int) -> None:
        here, there = replicas[number % 2], replicas[(number + 1) % 2]
        values = {"text": str(number)}
        async with places:
            if number % 4 < 2:
                result: Any = await here.runs.wait(None, "echo", input=values)
            else:
                thread_id = (await here.threads.create())["thread_id"]
                run = await here.runs.create(thread_id, "echo", input=values)
                result = await there.runs.join(thread_id, run["run_id"])
        if result != {**values, "heard": [str(number)]}:
            wrong.append(f"{number}: {result!r}")

    await asyncio.gather(*(one(number) for number in range(WAITS)))
    assert not wrong, f"{len(wrong)} of {WAITS}: {wrong[:5]}"


async def test_runs_of_a_thread_keep_their_order(replicas: tuple[Sdk, Sdk]) -> None:
    thread_id = (await replicas[0].threads.create())["thread_id"]
    for number in range(10):
        run = await replicas[number % 2].runs.create(thread_id, "echo", input={"text": str(number)})
    await until_status(replicas[0], thread_id, run["run_id"], "success")
    assert (await values_of(replicas[1], thread_id))["heard"] == [str(number) for number in range(10)]


async def test_no_update_that_was_acknowledged_is_lost(replicas: tuple[Sdk, Sdk]) -> None:
    """Neither beside another nor beside a run that begins in between: it is in the state, or was refused."""

    async def one() -> tuple[list[str], list[str]]:
        thread_id = await thread_after(replicas[0], "echo", {"text": "first"})
        said = {"first"}

        async def tell(what: str, change: Awaitable[Any]) -> None:
            try:
                await change
            except ConflictError:
                return
            said.add(what)

        for number in range(6):
            # As the SDK has it when a thread is made with its history.
            steps = [
                {"updates": [{"values": {"heard": [f"{number}-steps-{n}"]}, "as_node": "say"}]}
                for n in range(2)
            ]
            whole = {"thread_id": thread_id, "if_exists": "do_nothing", "supersteps": steps}
            here, there = replicas[number % 2], replicas[(number + 1) % 2]
            run, *_ = await asyncio.gather(
                there.runs.create(thread_id, "echo", input={"text": f"{number}-run"}),
                tell(f"{number}-a", here.threads.update_state(thread_id, {"heard": [f"{number}-a"]})),
                tell(f"{number}-b", there.threads.update_state(thread_id, {"heard": [f"{number}-b"]})),
                tell(f"{number}-steps-1", here.http.post("/threads", json=whole)),
            )
            await there.runs.join(thread_id, run["run_id"])
            said.add(f"{number}-run")
            if f"{number}-steps-1" in said:
                said.add(f"{number}-steps-0")
        return sorted(said), sorted((await values_of(there, thread_id))["heard"])

    for acknowledged, heard in await asyncio.gather(*(one() for _ in range(8))):
        assert heard == acknowledged


async def test_cancel_crosses_over(replicas: tuple[Sdk, Sdk]) -> None:
    async def one(number: int) -> None:
        here, there = replicas[number % 2], replicas[(number + 1) % 2]
        thread_id = (await here.threads.create())["thread_id"]
        run = await here.runs.create(thread_id, "slow", input={"step_seconds": 60})
        await until_status(here, thread_id, run["run_id"], "running")
        await there.runs.cancel(thread_id, run["run_id"], wait=True)
        assert (await here.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"

    await asyncio.gather(*(one(number) for number in range(6)))


async def test_streams_cross_over(replicas: tuple[Sdk, Sdk]) -> None:
    first, second = replicas
    thread_id = (await first.threads.create())["thread_id"]
    run = await first.runs.create(
        thread_id,
        "ticker",
        input={"ticks": 100, "pause_seconds": 0.05},
        stream_mode=["custom"],
        stream_resumable=True,
    )

    async def custom(replica: Sdk, place: str) -> list[Any]:
        stream = replica.runs.join_stream(thread_id, run["run_id"], last_event_id=place)
        return [part.data async for part in stream if part.event == "custom"]

    expected = [{"tick": n} if n % 3 else {"blank": " "} for n in range(100)]
    for seen in await asyncio.gather(*(custom(r, place) for r in replicas for place in ("-1", "0"))):
        assert seen == expected
    assert await custom(second, "-1") == expected


async def test_resumes_through_both_answer_once(replicas: tuple[Sdk, Sdk]) -> None:
    thread_id = await thread_after(replicas[0], "inbox", {"text": "letter"})
    ((pause,),) = (await replicas[0].threads.get(thread_id))["interrupts"].values()
    answer = {pause["id"]: [{"type": "accept", "args": None}]}
    runs = await asyncio.gather(
        *(replicas[n % 2].runs.create(thread_id, "inbox", command={"resume": answer}) for n in range(6))
    )
    for run in runs:
        await until_status(replicas[0], thread_id, run["run_id"], "success", "error")
    assert (await values_of(replicas[1], thread_id))["sent"] == ["letter"]


async def test_a_blocked_loop_is_named_and_leaves_the_work_to_the_other_server(
    replicas: tuple[Sdk, Sdk], homes: list[Path], tmp_path: Path
) -> None:
    """What was on it waits until it is free; the API, cancels and all other runs do not."""
    release = tmp_path / "released"

    async def begin(graph: str, values: dict[str, Any]) -> tuple[str, str]:
        thread_id = (await replicas[0].threads.create())["thread_id"]
        run_id = (await replicas[0].runs.create(thread_id, graph, input=values))["run_id"]
        await until_status(replicas[0], thread_id, run_id, "running")
        return thread_id, run_id

    async def blocked() -> list[float]:
        return [await _metric(replica, "job_loops_blocked") for replica in replicas]

    async def one_is_blocked() -> bool:
        return sum(await blocked()) == 1

    async def none_is_blocked() -> bool:
        return sum(await blocked()) == 0

    beside = [await begin("slow", {"step_seconds": 60}) for _ in range(4)]
    thread_id, run_id = await begin("blocking", {"until": str(release)})
    try:
        await until(one_is_blocked, "a loop is blocked")
        at = (await blocked()).index(1)
        assert await _metric(replicas[at], "job_loop_lag_seconds") >= BLOCKED_SECONDS
        echoes = [values_of_echo(replicas[number % 2], str(number)) for number in range(20)]
        assert await asyncio.gather(*echoes) == [[str(number)] for number in range(20)]
        other = await begin("slow", {"step_seconds": 60})
        await replicas[at].runs.cancel(*other, wait=True)
        for each in beside:
            await replicas[at].runs.cancel(*each)
        assert (await blocked())[at] == 1, "all that was done while the loop was blocked"
    finally:
        release.touch()
    await until(none_is_blocked, "the loop is free")
    await until_status(replicas[0], thread_id, run_id, "success")
    for each in (other, *beside):
        await until_status(replicas[0], *each, "interrupted")
    log = (homes[at] / "server.log").read_text()
    (told,) = [line for line in log.splitlines() if "A node blocks" in line and f"run_id={run_id}" in line]
    assert f"thread_id={thread_id}" in told
    assert "graph_id=blocking" in told
    assert "workers.py:" in told.partition(" at=")[2]
    assert "in block\n    time.sleep(0.01)" in log or "in block\n    while not os.path.exists" in log
    assert "The event loop of the jobs is free again" in log
    assert str(release) not in log, "payloads stay out of the log"


async def values_of_echo(replica: Sdk, text: str) -> Any:
    return (await replica.runs.wait(None, "echo", input={"text": text}))["heard"]


async def _metric(replica: Sdk, name: str) -> float:
    text = (await replica.http.client.get("/metrics")).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"lg_api_{name} "))


async def test_a_cron_fires_once_a_date(replicas: tuple[Sdk, Sdk]) -> None:
    first, second = replicas
    thread_id = (await first.threads.create())["thread_id"]
    began = datetime.now(UTC)
    cron: Any = await first.crons.create_for_thread(
        thread_id, "echo", schedule="* * * * * *", input={"text": "tick"}
    )

    async def fired() -> bool:
        return len(await statuses(second, thread_id)) >= 5

    await until(fired, "the cron has fired five times")
    await second.crons.delete(cron["cron_id"])
    seconds = (datetime.now(UTC) - began).total_seconds()
    assert len(await statuses(first, thread_id)) <= seconds + 1


async def test_started_again_it_knows_everything(engine: str, services: Services, tmp_path: Path) -> None:
    database_uri = services.make_database("again")
    with running_holdfast_server(tmp_path / "a", services, database_uri) as url:
        async with plain_http(url) as http:
            sdk: Sdk = LangGraphClient(http)
            done = await thread_after(sdk, "echo", {"text": "a"}, metadata={"note": "kept"})
            waiting = await thread_after(sdk, "asks_freely", {})
            ticking = (await sdk.threads.create())["thread_id"]
            cron: Any = await sdk.crons.create_for_thread(
                ticking, "echo", schedule="* * * * * */2", input={"text": "tick"}
            )
            await sdk.store.put_item(["notes"], "k", {"n": 1})
            assistant = await sdk.assistants.create("echo", name=uuid.uuid4().hex)
            later = (await sdk.threads.create())["thread_id"]
            await sdk.runs.create(later, "echo", input={"text": "b"}, after_seconds=6)
            before = await sdk.threads.get_history(done, limit=10)
    with running_holdfast_server(tmp_path / "b", services, database_uri) as url:
        async with plain_http(url) as http:
            sdk = LangGraphClient(http)
            assert await sdk.threads.get_history(done, limit=10) == before
            assert [run["metadata"]["note"] for run in await sdk.runs.list(done)] == ["kept"]
            assert (await sdk.runs.wait(waiting, "asks_freely", command={"resume": 1}))["answers"] == [1]
            assert (await sdk.store.get_item(["notes"], "k"))["value"] == {"n": 1}
            assert (await sdk.assistants.get(assistant["assistant_id"]))["name"] == assistant["name"]
            count = len(await statuses(sdk, ticking))

            async def ran_later() -> bool:
                return list((await statuses(sdk, later)).values()) == ["success"]

            async def ticked() -> bool:
                return len(await statuses(sdk, ticking)) > count

            await until(ran_later, "the run that was to begin later has run")
            await until(ticked, "the cron goes on")
            await sdk.crons.delete(cron["cron_id"])
