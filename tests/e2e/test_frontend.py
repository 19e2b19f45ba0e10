"""Frontends are users too: the stock JavaScript SDK from npm streams a run and answers an approval."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from langgraph_runtime_holdfast.local.stack import LocalStack

SCRIPT = Path(__file__).parent / "js"


@pytest.fixture
def installed_script(tmp_path: Path) -> Path:
    if shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have Node: without it nobody checks that frontends work")
        pytest.skip("Node is not installed; this test alone needs it")
    folder = tmp_path / "js"
    shutil.copytree(SCRIPT, folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, check=True)
    return folder


def test_the_stock_javascript_sdk_streams_and_approves(
    stack: LocalStack, project: Path, installed_script: Path
) -> None:
    ended = subprocess.run(
        ["node", "frontend.mjs", str(project / "graphs" / "examples")],
        cwd=installed_script,
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
