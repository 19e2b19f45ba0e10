"""Frontends are users too: the stock JavaScript SDK from npm streams a run and answers an approval."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from langgraph_runtime_holdfast.local.stack import LocalStack


def test_the_stock_javascript_sdk_streams_and_approves(
    stack: LocalStack, project: Path, javascript: Path
) -> None:
    ended = subprocess.run(
        ["node", "frontend.mjs", str(project / "graphs" / "examples")],
        cwd=javascript,
        env={**os.environ, **stack.environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout)
    assert seen["streamed"]["answer"]
    assert seen["approved"]["asked"] == seen["edited"]["asked"] == "send_reply"
    assert seen["edited"]["answer"] == "We look into it. [REF-1]"
