"""Valkey as people run it: a cluster that loses a node, Sentinels, TLS, few rights; and what is refused."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from redis.exceptions import RedisError

from langgraph_runtime_holdfast import feed, valkey
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.ops.outgoing import outgoing
from langgraph_runtime_holdfast.settings import settings
from langgraph_runtime_holdfast.valkey_start import start_valkey
from tests.contract.api import Sdk, until_status
from tests.contract.conftest import plain_http
from tests.contract.engines import Services, running_holdfast_server
from tests.contract.valkeys import (
    Cluster,
    Watched,
    make_certificate,
    running_cluster,
    running_sentinel,
    running_valkey,
    tls_before,
)

DOCS = Path(__file__).parents[2] / "docs" / "valkey.md"
TICKS = 20
THREADS = 12


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A primary, a replica and a Sentinel."""
    with running_sentinel(tmp_path_factory.mktemp("sentinel")) as running:
        yield running


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Where REDIS_URI and its like can be set for this process."""
    yield monkeypatch
    settings.cache_clear()


@asynccontextmanager
async def started(environment: pytest.MonkeyPatch, uri: str, **others: str) -> AsyncIterator[None]:
    """What a server does at its start and at its end with Valkey."""
    values = {"REDIS_URI": uri, "REDIS_KEY_PREFIX": "holdfast:", **others}
    for name, value in values.items():
        environment.setenv(name, value)
    settings.cache_clear()
    try:
        await start_valkey()
        yield
    finally:
        await feed.close_follower()
        await valkey.stop_valkey()


async def tell_and_hear(count: int = 40) -> None:
    """Events of many threads, told in every way there is, reach who follows them, whole and in order."""
    names = [valkey.key(thread, "run", thread) for thread in (uuid.uuid4() for _ in range(count))]

    async def hear(name: str) -> list[bytes]:
        async with feed.follower(name).follow(name, feed.BEGINNING) as reader:
            return [(await reader.queue.get()).data for _ in range(3)]

    async with asyncio.timeout(30):
        heard = [asyncio.create_task(hear(name)) for name in names]
        for name in names:
            await feed.append(name, b"values", b"0", keep_seconds=60)
            outgoing().append(name, b"values", b"1", keep_seconds=60)
            outgoing().send(name, partial(feed.add_to, feed=name, event=b"v", data=b"2", keep_seconds=60))
        assert await outgoing().settle()
        assert await asyncio.gather(*heard) == [[b"0", b"1", b"2"]] * count
    for name in names:
        assert [entry.data for entry in await feed.past(name)] == [b"0", b"1", b"2"]
        newest = await feed.last(name)
        assert newest is not None
        assert feed.order(newest.id) <= feed.order(await feed.now(name))
    of_one = {names[0]: feed.BEGINNING, valkey.beside(names[0], "other"): feed.BEGINNING}
    assert len((await feed.past_of_all(of_one))[names[0]]) == 3


async def test_a_cluster_is_recognised_and_every_shard_carries_events(
    environment: pytest.MonkeyPatch, cluster: Cluster
) -> None:
    one = f"{cluster.uri}/0"
    several = ",".join([cluster.uri, "127.0.0.1:1"])
    for uri, others in ((one, {}), (several, {}), (cluster.uri, {"REDIS_CLUSTER": "true"})):
        async with started(environment, uri, **others):
            assert valkey.is_cluster()
            await tell_and_hear()


async def test_a_valkey_that_turns_out_to_be_a_cluster_is_taken_as_one(
    environment: pytest.MonkeyPatch, cluster: Cluster
) -> None:
    """It was away at the start, and is found out while readers already wait."""
    async with started(environment, cluster.uri.replace("127.0.0.1", "localhost")):
        valkey._clusters.clear()
        assert not valkey.is_cluster()
        names = [valkey.key(owner, "run", uuid.uuid4()) for owner in range(40)]
        name = next(each for each in names if cluster.node_of(each) is not cluster.nodes[0])
        async with asyncio.timeout(30), feed.follower(name).follow(name, feed.BEGINNING) as reader:
            # Its first word to the follower's own feed was refused, and told the rest.
            await feed.append(name, b"values", b"0", keep_seconds=60)
            assert (await reader.queue.get()).data == b"0"
        assert valkey.is_cluster()


async def test_after_a_failover_the_sentinels_lead_to_the_new_primary(
    environment: pytest.MonkeyPatch, watched: Watched
) -> None:
    async with started(environment, watched.uri):
        await tell_and_hear()
        watched.primary.kill()
        await asyncio.to_thread(watched.until_promoted)
        async with asyncio.timeout(30):
            while True:
                try:
                    return await tell_and_hear()
                except (RedisError, AssertionError):
                    await asyncio.sleep(0.2)


async def test_tls_with_an_authority_of_ones_own(
    environment: pytest.MonkeyPatch, services: Services, tmp_path: Path
) -> None:
    port = int(services.valkey_uri.split(":")[2].split("/")[0])
    certificate, private = make_certificate(tmp_path)
    in_base64 = base64.b64encode(certificate.read_bytes()).decode()
    async with tls_before(port, certificate, private) as tls:
        uri = f"rediss://127.0.0.1:{tls}"
        async with started(environment, f"{uri}?ssl_ca_certs={certificate}"):
            await tell_and_hear()
        with pytest.raises(EngineError, match=r"certificate is not accepted: .*ssl_ca_certs=FILE"):
            async with started(environment, uri):
                pass
        async with started(environment, uri, REDIS_TLS_CA_CERT=in_base64):
            await tell_and_hear()


async def test_a_user_with_the_documented_rights_and_no_more(
    environment: pytest.MonkeyPatch, cluster: Cluster, tmp_path: Path
) -> None:
    line = next(line for line in DOCS.read_text().splitlines() if line.startswith("ACL SETUSER"))
    given = line.replace("PASSWORD", "s3cret").split()
    with running_valkey(tmp_path) as server:
        where = f"127.0.0.1:{server.port}"
        server.client.execute_command(*given)
        server.client.execute_command("ACL", "SETUSER", "few", "on", ">s3cret", "~*", "+@all", "-@scripting")
        async with started(environment, f"redis://holdfast:s3cret@{where}"):
            await tell_and_hear()
        for uri, told in (
            (f"redis://few:s3cret@{where}", "refuses a right that is needed: .*ACL SETUSER holdfast on"),
            (f"redis://holdfast:wr0ng@{where}", "refuses the user or the password in REDIS_URI"),
            (f"redis://holdfast:s3cret@{where}/3", r"a right that is needed: .*\+select"),
            (f"redis://{where}/99", "has no database 99"),
            (f"redis://{where},{where}", "Valkey is no cluster"),
            (f"redis+sentinel://{where}/main", "no Sentinel"),
        ):
            with pytest.raises(EngineError, match=told) as refused:
                async with started(environment, uri):
                    pass
            assert "s3cret" not in str(refused.value)
    for node in cluster.nodes:
        node.client.execute_command(*given)
    async with started(environment, cluster.uri.replace("//", "//holdfast:s3cret@")):
        await tell_and_hear()


async def test_what_a_server_in_another_role_is(
    environment: pytest.MonkeyPatch, watched: Watched, cluster: Cluster
) -> None:
    sentinel = watched.sentinel.port
    rights = ("on", ">s3cret", "-@all", "+ping", "+sentinel|masters")
    watched.sentinel.client.execute_command("ACL", "SETUSER", "asks", *rights)
    login = f"{watched.uri}?sentinel_username=asks&sentinel_password="
    async with started(environment, f"{login}s3cret"):
        assert await valkey.valkey().ping()
    for uri, told in (
        (f"{login}wr0ng", "A Sentinel refuses the user or the password"),
        (f"redis://127.0.0.1:{sentinel}", r"names a Sentinel\. Write redis\+sentinel://"),
        (f"redis+sentinel://127.0.0.1:{sentinel}/mian", "know no 'mian', .* they know main"),
        (f"{cluster.uri}/2", "only number 0|only\\s+number 0|cluster"),
    ):
        with pytest.raises(EngineError, match=told):
            async with started(environment, uri):
                pass


# The last one: the node stays away.
async def test_streams_go_on_and_all_waits_end_right_when_a_node_is_lost(
    cluster: Cluster, services: Services, tmp_path: Path
) -> None:
    """The node that REDIS_URI names, without a replica; the streams in other slots do not notice."""
    database_uri = services.make_database("clustered")
    on_cluster = replace(services, valkey_uri=cluster.uri)
    with (
        running_holdfast_server(tmp_path / "a", on_cluster, database_uri) as first,
        running_holdfast_server(tmp_path / "b", on_cluster, database_uri) as second,
    ):
        async with plain_http(first) as http_a, plain_http(second) as http_b:
            both = LangGraphClient(http_a), LangGraphClient(http_b)
            assert await _seen_of_each(both, cluster) == dict.fromkeys(cluster.nodes, "all")
            cluster.nodes[0].kill()
            seen = await _seen_of_each(both, cluster)
            assert seen[cluster.nodes[1]] == seen[cluster.nodes[2]] == "all"
            await _cancel_crosses_over(both)


async def _seen_of_each(both: tuple[Sdk, Sdk], cluster: Cluster) -> dict[Any, str]:
    """Streams and waits through either server of runs that either executes: by node, "all" or "the end"."""
    seen: dict[Any, str] = dict.fromkeys(cluster.nodes, "all")

    async def one(number: int) -> None:
        here, there = both[number % 2], both[(number + 1) % 2]
        thread_id = (await here.threads.create())["thread_id"]
        given = {"ticks": TICKS, "pause_seconds": 0.02}
        asked: Any = {"input": given, "stream_mode": ["custom", "values"]}
        if number % 4 < 2:
            parts = [part async for part in here.runs.stream(thread_id, "ticker", **asked)]
        else:
            run = await here.runs.create(thread_id, "ticker", stream_resumable=True, **asked)
            stream = there.runs.join_stream(thread_id, run["run_id"], last_event_id="-1")
            parts = [part async for part in stream]
        assert not [part for part in parts if part.event == "error"]
        # What the run has come to is told in any case.
        assert [part for part in parts if part.event == "values"][-1].data.get("sent") == TICKS
        ticks = [part.data for part in parts if part.event == "custom"]
        if ticks != [{"tick": n} if n % 3 else {"blank": " "} for n in range(TICKS)]:
            seen[cluster.node_of(valkey.key(thread_id))] = "the end"
        waited: Any = await there.runs.wait(None, "echo", input={"text": str(number)})
        assert waited["heard"] == [str(number)]

    async with asyncio.timeout(90):
        await asyncio.gather(*(one(number) for number in range(THREADS)))
    return seen


async def _cancel_crosses_over(both: tuple[Sdk, Sdk]) -> None:
    here, there = both
    thread_id = (await here.threads.create())["thread_id"]
    run = await here.runs.create(thread_id, "slow", input={"step_seconds": 60})
    await until_status(here, thread_id, run["run_id"], "running")
    await there.runs.cancel(thread_id, run["run_id"], wait=True)
    assert (await here.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
