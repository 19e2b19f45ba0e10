"""Frontends are users too: the stock JavaScript SDK from npm streams a run and answers an approval."""

from __future__ import annotations

from pathlib import Path

from langgraph_runtime_holdfast.local.stack import LocalStack
from tests.conftest import JavaScript


def test_the_stock_javascript_sdk_streams_and_approves(
    stack: LocalStack, project: Path, javascript: JavaScript
) -> None:
    seen = javascript.run("frontend.mjs", str(project / "graphs" / "examples"), **stack.environment)
    assert seen["streamed"]["answer"]
    assert seen["approved"]["asked"] == seen["edited"]["asked"] == "send_reply"
    assert seen["edited"]["answer"] == "We look into it. [REF-1]"
