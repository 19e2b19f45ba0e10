"""`python -m langgraph_runtime_holdfast.local` refuses in one clear line, before it starts anything."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from langgraph_runtime_holdfast.local.folders import FolderLock


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "graph.py").write_text("graph = None\n")
    (tmp_path / "langgraph.json").write_text('{"graphs": {"one": "./graph.py:graph"}}')
    return tmp_path


def refuse(project: Path, *arguments: str, **settings: str) -> str:
    """Run the command, expect it to refuse, and return its one line."""
    ended = subprocess.run(
        [sys.executable, "-m", "langgraph_runtime_holdfast.local", *arguments],
        cwd=project,
        env=os.environ | {"HOLDFAST_PORT": "0", "CALLBACKS_PORT": "0"} | settings,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ended.returncode == 2, ended
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert not (project / ".holdfast" / "postgres").exists(), "it started something"
    return ended.stderr


@pytest.mark.parametrize("setting", ["HOLDFAST_PORT", "CALLBACKS_PORT"])
def test_a_taken_port_is_named_with_its_setting(project: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refuse(project, **{setting: port})
    assert f"port {port} is taken" in line
    assert f"set {setting}" in line


def test_a_broken_manifest(project: Path) -> None:
    (project / "langgraph.json").write_text('{"graphs": ')
    assert "langgraph.json is not valid JSON: line 1" in refuse(project)


def test_an_unknown_engine_lists_what_there_is(project: Path) -> None:
    assert "there is no engine 'steam'. Choose one of: dev, holdfast" in refuse(project, "--engine", "steam")


def test_a_missing_workload_is_seen_before_the_start(project: Path) -> None:
    assert "no-such-command is not installed" in refuse(project, "--", "no-such-command")


def test_a_data_folder_that_cannot_be_written(project: Path) -> None:
    (project / "file").write_text("")
    line = refuse(project, HOLDFAST_HOME="file/home")
    assert "cannot write to the data folder" in line
    assert "Set HOLDFAST_HOME" in line


def test_a_second_start_on_one_data_folder(project: Path) -> None:
    with FolderLock(project / ".holdfast"):
        assert f"in use by process {os.getpid()}" in refuse(project)
