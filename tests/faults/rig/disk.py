"""A small disk for the tables of a database, to be filled and freed. Mounted, so for root on Linux."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from langgraph_runtime_holdfast.local.unprivileged import give_away

CAN_MOUNT = sys.platform == "linux" and os.geteuid() == 0
_SIZE = "64m"
_CHUNK = b"\0" * 65_536


class SmallDisk:
    """A file system of its own, in memory."""

    def __init__(self) -> None:
        """Choose where it is mounted: where Postgres, which is not root, may look."""
        self._folder = Path(tempfile.mkdtemp(prefix="holdfast-disk-"))
        self._folder.chmod(0o755)
        self.tables = self._folder / "tables"
        self._ballast = self._folder / "ballast"

    def mount(self) -> None:
        """Make it, with a folder that Postgres may write to.

        Raises:
            CalledProcessError: This process may not mount.
        """
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(self._folder)], check=True
        )
        self.tables.mkdir()
        give_away(self.tables)

    def unmount(self) -> None:
        """Take it away with all that is on it."""
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True)
        self._folder.rmdir()

    def fill(self) -> None:
        """Leave no byte free."""
        try:
            with self._ballast.open("wb", buffering=0) as ballast:
                while ballast.write(_CHUNK) > 0:
                    pass
        except OSError:
            return  # it is full

    def free(self) -> None:
        """Give all the room back."""
        self._ballast.unlink(missing_ok=True)
