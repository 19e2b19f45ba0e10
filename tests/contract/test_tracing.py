"""Where traces go, and what hangs together in them: by environment variables alone, and nowhere without."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.contract.engines import GRAPHS, SCRIPTS, Services, environment, running_holdfast_server
from tests.contract.otlp_receiver import Collector, Span, running_collector

pytestmark = pytest.mark.parametrize("engine", ["holdfast"], indirect=True)

MANIFEST = "langgraph.traced.json"
ASKED = {"messages": [{"role": "user", "content": "How is the weather?"}]}
RUN, THREAD = "langsmith.run_id", "langsmith.thread_id"


@pytest.fixture
def collector(engine: str) -> Iterator[Collector]:
    """What takes the traces of one test."""
    with running_collector() as running:
        yield running


def test_one_trace_leads_from_the_client_to_the_model(
    collector: Collector, services: Services, tmp_path: Path
) -> None:
    otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    callers = {"traceparent": f"00-{'c' * 32}-{'d' * 16}-01"}
    with running_holdfast_server(
        tmp_path / "server",
        services,
        services.make_database("traced"),
        MANIFEST,
        graphs=GRAPHS,
        LANGSMITH_TRACING="",
        **otel,
    ) as url:
        command = [str(SCRIPTS / "holdfast"), "run", "thinking", "How is the weather?"]
        variables = environment(HOLDFAST_URL=url, **otel)
        subprocess.run(command, cwd=tmp_path, env=variables, check=True, capture_output=True, timeout=150)
        body = {"assistant_id": "thinking", "input": ASKED}
        httpx.post(f"{url}/runs/wait", json=body, headers=callers, timeout=60).raise_for_status()
    # Read after both have ended: their last spans must have been sent by then.
    commands = [span for span in collector.spans.values() if span.service == "holdfast-cli"]
    [command_span] = [span for span in commands if not span.parent_id]
    ours = [span for span in collector.spans.values() if span.trace_id == command_span.trace_id]
    theirs = [span for span in collector.spans.values() if span.trace_id == "c" * 32]
    assert len(ours) + len(theirs) == len(collector.spans)

    into_run = ["holdfast run", "submit", "POST /threads/{thread_id}/runs", "worker.stream_run", "thinking"]
    paths = [collector.path_of(span) for span in ours]
    assert paths.count([*into_run, "model", "Thinker"]) == 2
    assert paths.count([*into_run, "tools", "weather"]) == 1
    _assert_all_tell_their_run(ours)
    [asked] = [span for span in theirs if span.parent_id == "d" * 16]
    assert asked.name == "POST /runs/wait"
    assert [asked.name, *into_run[-2:], "model", "Thinker"] in map(collector.path_of, theirs)
    _assert_all_tell_their_run(theirs)


def _assert_all_tell_their_run(spans: list[Span]) -> None:
    """The worker's span has the ids; what LangChain made of the run has them as metadata."""
    [worker] = [span for span in spans if span.name == "worker.stream_run"]
    inside = [span for span in spans if "langsmith.span.kind" in span.attributes]
    assert len(inside) == 7
    for span in inside:
        assert span.attributes["langsmith.metadata.run_id"] == worker.attributes[RUN]
        assert span.attributes["langsmith.metadata.thread_id"] == worker.attributes[THREAD]
    models = [span for span in inside if span.name == "Thinker"]
    assert [span.attributes["gen_ai.usage.total_tokens"] for span in models] == [10, 10]
    assert "Oslo" in models[0].attributes["gen_ai.completion"] + models[1].attributes["gen_ai.completion"]
    assert {span.attributes.get(RUN) for span in spans if span.name in ("submit", "join")} <= {
        worker.attributes[RUN]
    }


@pytest.mark.parametrize("asked_for", [False, True])
def test_langsmith_is_sent_to_when_asked_and_nothing_leaves_by_default(
    collector: Collector, services: Services, tmp_path: Path, asked_for: bool
) -> None:
    given = {"LANGSMITH_TRACING": "", "LANGSMITH_API_KEY": "key", "NO_PROXY": "127.0.0.1"}
    # Whatever would leave the machine comes by here.
    given |= {"HTTPS_PROXY": collector.url, "HTTP_PROXY": collector.url}
    if asked_for:
        given |= {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": collector.url}
    name = f"langsmith_{asked_for}".lower()
    with running_holdfast_server(
        tmp_path / "server", services, services.make_database(name), MANIFEST, graphs=GRAPHS, **given
    ) as url:
        thread = httpx.post(f"{url}/threads", json={}, timeout=60).json()["thread_id"]
        body = {"assistant_id": "thinking", "input": ASKED}
        answer = httpx.post(f"{url}/threads/{thread}/runs/wait", json=body, timeout=60)
        run = answer.headers["content-location"].rpartition("/")[2]
    if not asked_for:
        assert collector.requests == []
        return
    assert set(collector.requests) == {"GET /info", "POST /runs/multipart"}
    sent = b"".join(collector.bodies)
    assert all(part.encode() in sent for part in (run, thread, "Thinker", "weather", "Oslo"))
