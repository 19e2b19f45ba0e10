"""Processes whose wall clock is wrong. Their monotonic clock, which waits are measured by, is right."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

_LIBRARY = "vendor/libfaketime/src/libfaketime.so.1"
_TOLERANCE_SECONDS = 30.0


def clock_off_by(seconds: int) -> dict[str, str]:
    """The environment of a process whose clock is ahead by so much, or behind if it is negative.

    Raises:
        RuntimeError: This machine's processes cannot be given another clock.
    """
    # Not imported: it brings classes for tests that are not needed here.
    spec = importlib.util.find_spec("libfaketime")
    folders = (spec and spec.submodule_search_locations) or []
    library = next((str(path) for folder in folders if (path := Path(folder, _LIBRARY)).exists()), "")
    environment = {
        "LD_PRELOAD": library,
        "FAKETIME": f"{seconds:+d}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # The older name of the same, which the library in the wheel knows.
        "DONT_FAKE_MONOTONIC": "1",
    }
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if abs(float(told) - time.time() - seconds) > _TOLERANCE_SECONDS:
        raise RuntimeError(f"libfaketime changes no clock on this machine ({library or 'not installed'}).")
    return environment
