"""What support remembers of a customer, in the platform's store: read after a restart, and by nobody else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient

from tests.contract.conftest import plain_http
from tests.contract.engines import Services, running_dev_server, running_holdfast_server
from tests.contract.interfaces import hitl

Serve = Callable[[], contextlib.AbstractContextManager[str]]
MANIFEST = "langgraph.secured.json"


@pytest.fixture
def serve(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    """Starts a server, always on the same data."""
    if engine == "dev":
        return lambda: running_dev_server(tmp_path, MANIFEST)
    services: Services = request.getfixturevalue("services")
    database_uri = services.make_database("remembering")
    return lambda: running_holdfast_server(tmp_path, services, database_uri, MANIFEST)


async def ask(url: str, user: str, customer: str, text: str, **resume: Any) -> Any:
    """One turn in a new conversation, as this user for this customer; returns the thread's state."""
    async with plain_http(url, user) as http:
        sdk = LangGraphClient(http)
        thread_id = (await sdk.threads.create())["thread_id"]
        given: Any = {"messages": [{"role": "user", "content": text}], "customer": customer}
        await sdk.runs.wait(thread_id, "support", input=given)
        if resume:
            await sdk.runs.wait(thread_id, "support", command={"resume": hitl(resume)})
        return (await sdk.threads.get_state(thread_id))["values"]


async def test_a_customer_is_remembered_after_a_restart_and_by_nobody_else(serve: Serve) -> None:
    with serve() as url:
        await ask(url, "alice", "c-1", "Please call me Kim. I want my money back.", type="approve")
    with serve() as url:
        later = await ask(url, "alice", "c-1", "I want my money back.")
        assert later["draft"].startswith("Hello Kim,")
        [case] = later["remembered"]["cases"]
        assert (case["category"], case["decision"]) == ("refund", "approve")
        for user, customer in (("alice", "c-2"), ("bob", "c-1")):
            other = await ask(url, user, customer, "I want my money back.")
            assert other["remembered"] == {"wishes": [], "cases": []}
            assert other["draft"].startswith("Hello,")
