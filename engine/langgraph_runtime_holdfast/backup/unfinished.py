"""Where a backup is written before it has its name, and what becomes of one that was cut off.

Its folder is locked as long as somebody writes to it, pg_dump included, which outlives a process that is
killed. What nobody holds any more is in nobody's way but on the disk: the next backup removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from langgraph_runtime_holdfast.errors import EngineError

_SUFFIX: Final = ".unfinished"


@contextmanager
def unfinished(final: Path) -> Iterator[tuple[Path, int]]:
    """A folder to write to, for its owner only; what is left of it at the end is removed.

    Args:
        final: The name that it gets when it is whole.

    Yields:
        The folder, and what keeps it locked for whoever inherits it.

    Raises:
        EngineError: There is such a backup, or one is being made.
        OSError: The folder cannot be made.
    """
    made = final.with_name(final.name + _SUFFIX)
    final.parent.mkdir(parents=True, exist_ok=True)
    with _held(final.parent):  # so that nobody takes it for left behind before it is locked
        _remove_left_behind(final.parent)
        if final.exists() or made.exists():
            raise EngineError(f"{final} is there, or being made.")
        made.mkdir(mode=0o700)
        held = os.open(made, os.O_RDONLY)
        _lock(held, fcntl.LOCK_EX)
    try:
        yield made, held
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(held)


def _remove_left_behind(folder: Path) -> None:
    for path in folder.glob(f"holdfast-*Z{_SUFFIX}"):
        with suppress(OSError):
            held = os.open(path, os.O_RDONLY)
            try:
                if _lock(held, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(held)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, how: int) -> bool:
    """Whether it could be locked; not every file system can, and there nothing is removed."""
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        return False
    return True
