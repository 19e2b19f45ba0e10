"""Files that agents may read: those under one configured folder, and nothing else.

HOLDFAST_DATA_DIR names the folder; unset, it is the examples that ship with the template.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from .offload import in_thread
from .problems import InputProblem

EXAMPLES: Final = Path(__file__).resolve().parent.parent / "examples"
MAX_FILE_BYTES: Final = 50_000_000


async def read_data_file(path: str, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Read a file of the data folder.

    Args:
        path: Relative to the data folder.
        max_bytes: The largest file that is read.

    Raises:
        InputProblem: The path leaves the folder (also through a link), is no file, or is too large.
    """
    return await in_thread(_read, path, max_bytes)


def _read(path: str, max_bytes: int) -> bytes:
    folder = Path(os.environ.get("HOLDFAST_DATA_DIR", "").strip() or EXAMPLES).resolve()
    cure = "Give a path below the data folder (HOLDFAST_DATA_DIR on the server), or send the data inline."
    try:
        file = (folder / path).resolve()
        if not file.is_relative_to(folder):
            raise InputProblem("path_outside_data_folder", f"'{path}' is not below the data folder.", cure)
        if not file.is_file():
            raise InputProblem("file_not_found", f"There is no file '{path}' in the data folder.", cure)
        size = file.stat().st_size
        if size > max_bytes:
            raise InputProblem(
                "file_too_large",
                f"'{path}' has {size:,} bytes; {max_bytes:,} is the most.",
                "Send a smaller file.",
            )
        return file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise InputProblem("file_unreadable", f"'{path[:200]}' cannot be read.", cure) from error
