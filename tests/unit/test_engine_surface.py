"""The surface check: a langgraph-api that calls what the engine does not have stops the start, by name."""

from pathlib import Path
from typing import Any

import pytest

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.ops import Runs, Threads
from langgraph_runtime_holdfast.surface import check_surface, read_surface, server_folder


def test_this_engine_has_all_that_the_locked_server_calls() -> None:
    check_surface()


def test_the_surface_is_read_in_full() -> None:
    names = {use.name for use in read_surface(server_folder())}
    # One of each kind: a call, an attribute, a class handed on, an exception list, what a function returns.
    assert {
        "ops.Runs.put",
        "ops.Threads.Stream.join_event_streaming",
        "lifespan.lifespan",
        "retry.OVERLOADED_EXCEPTIONS",
        "checkpoint.Checkpointer().adelete_for_runs",
    } <= names


def test_a_worker_whose_end_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text("async def worker(run):\n    status = outcome = None\n")
    with pytest.raises(EngineError, match=r"worker\.worker has no variable `exception` \(worker\.py:1\)"):
        check_surface(tmp_path)


def test_a_missing_method_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Threads, "prune")
    with pytest.raises(EngineError, match=r"ops\.Threads\.prune\(.*\) \(api/threads\.py:\d+\).*no attribute"):
        check_surface()


def test_a_missing_parameter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancel(
        conn: Any, run_ids: Any = None, *, action: str, thread_id: Any, status: Any = None
    ) -> None:
        """As it was before the server passed a reason."""

    monkeypatch.setattr(Runs, "cancel", staticmethod(cancel))
    with pytest.raises(EngineError, match=r"ops\.Runs\.cancel\(.*unexpected keyword argument 'reason'"):
        check_surface()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("Runs.put(1, 2)", "missing a required"),
        ("Runs.pool_stats(1, 2, 3, 4, 5, 6)", "too many positional arguments"),
        ("Runs.Stream.teleport", "no attribute 'teleport'"),
        ("Runs.RETRY()", "no attribute 'RETRY'"),
    ],
)
def test_a_new_call_is_named_with_its_place(tmp_path: Path, call: str, expected: str) -> None:
    (tmp_path / "new.py").write_text(f"from langgraph_runtime.ops import Runs\n\n{call}\n")
    with pytest.raises(EngineError, match=rf"new\.py:3\): .*{expected}"):
        check_surface(tmp_path)


def test_what_cannot_be_counted_is_let_through(tmp_path: Path) -> None:
    lines = ["from langgraph_runtime.ops import Runs as R", "R.put(*a, **k)", "R.search(c, t, **k)"]
    (tmp_path / "open.py").write_text("\n".join(lines))
    check_surface(tmp_path)
