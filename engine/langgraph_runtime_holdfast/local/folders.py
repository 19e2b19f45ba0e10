"""The data folder: made, locked for one owner at a time, and the server's working directory in it."""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from langgraph_runtime_holdfast.local.endings import pause
from langgraph_runtime_holdfast.local.errors import LocalStackError

# Longer than any part's grace: after a kill -9 the leashes still hold the lock while they tidy up.
HANDOVER_SECONDS = 30.0
# The in-memory server pickles its state here, in its working directory.
SERVER_STATE = ".langgraph_api"
NOT_LINKED = frozenset({SERVER_STATE, ".git", ".venv"})


class FolderLock:
    """An exclusive hold on a folder, kept by this process and by every leash that inherits `fileno`."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if need be; nothing is locked yet.

        Raises:
            LocalStackError: the folder cannot be made or written.
        """
        self.folder = folder
        self._file = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._path = folder / "lock"
            self._path.touch()
        except OSError as error:
            raise LocalStackError(
                f"cannot write to the data folder {folder}: {error.strerror}. "
                "Set HOLDFAST_HOME to a folder you may write to."
            ) from error

    def __enter__(self) -> Self:
        """Take the lock; waits only for the leftovers of an owner that has died.

        Raises:
            LocalStackError: another live process holds it.
        """
        self._file = os.open(self._path, os.O_RDWR)
        deadline = time.monotonic() + HANDOVER_SECONDS
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner = os.pread(self._file, 32, 0).decode(errors="replace").strip()
                if _is_alive(owner) or time.monotonic() > deadline:
                    self._close()
                    raise LocalStackError(
                        f"the data folder {self.folder} is in use by process {owner or 'unknown'}. "
                        "End that one first, or set HOLDFAST_HOME to another folder."
                    ) from None
                pause(0.05)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it."""
        self._close()

    @property
    def fileno(self) -> int:
        """The descriptor that holds the lock."""
        return self._file

    def _close(self) -> None:
        os.close(self._file)
        self._file = -1


def _is_alive(process_id: str) -> bool:
    try:
        os.kill(int(process_id), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def make_server_folder(project: Path, home: Path) -> Path:
    """Make a working directory for the server that looks like the project but keeps its state to itself.

    The stock server resolves the paths of langgraph.json from its working directory and writes its state
    there too. A folder of links gives each data folder a state of its own: two stacks of one project (tests
    beside `make run`) neither read nor overwrite each other's threads.

    Args:
        project: the folder of langgraph.json.
        home: the data folder.

    Returns:
        The folder, its links up to date.
    """
    folder = home / "server"
    folder.mkdir(exist_ok=True)
    for entry in folder.iterdir():
        if entry.is_symlink():
            entry.unlink()
    for entry in project.iterdir():
        if entry.name not in NOT_LINKED and not home.is_relative_to(entry):
            (folder / entry.name).symlink_to(entry)
    return folder
