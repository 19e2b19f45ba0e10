"""Writes files all or none: a disk that fills leaves nothing behind that would bar the next try."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from sdk_client.errors import ConfigurationError

Write = Callable[[Path, bytes], None]
"""Writes one new file, and the folders that it needs."""


@contextmanager
def all_or_none() -> Iterator[Write]:
    """Write files inside this block; if it is left by an error, what was written is removed.

    Raises:
        ConfigurationError: From the writing, where a file or folder cannot be.
    """
    made: list[Path] = []

    def write(path: Path, content: bytes) -> None:
        try:
            for folder in reversed([*takewhile(lambda parent: not parent.exists(), path.parents)]):
                folder.mkdir()
                made.append(folder)
            with path.open("xb") as file:
                made.append(path)
                file.write(content)
        except OSError as error:
            raise unwritable(error, path) from error

    try:
        yield write
    except BaseException:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise


def replace(path: Path, content: bytes) -> None:
    """Write a file anew; it has either its old content or all of the new one.

    Raises:
        ConfigurationError: It cannot be written.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise unwritable(error, path) from error


def unwritable(error: OSError, path: Path) -> ConfigurationError:
    """What to say of a file that cannot be written."""
    return ConfigurationError(f"cannot write {error.filename or path}: {error.strerror}")
