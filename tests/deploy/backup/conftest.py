"""A folder that Postgres' own user can enter, whatever pytest does to its folders meanwhile."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Not in pytest's: each start of pytest closes these to others, also below a Postgres that runs.

    As root Postgres is another user, and what it starts to archive and to restore looks for itself whether it
    may pass.
    """
    with tempfile.TemporaryDirectory(prefix="holdfast-backup-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder
