"""Several processes behind one port: each scrape reaches one of them, and tells of all.

`holdfast serve --workers N` gives its processes a folder. Each takes a number in it, by a lock that the
kernel opens when the process ends, and writes there every moment what it would say. Whoever is scraped adds
what the others have written: as series of their own, labelled `worker`, because a sum of counters would fall
when a process ends. A process that takes a dead one's number begins its counters anew, as after a restart.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson

FOLDER: Final = "HOLDFAST_METRICS_DIR"
_WRITE_SECONDS: Final = 2.0
_MOST_PROCESSES: Final = 256
_SAMPLE: Final = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (.*)", re.DOTALL)

Page = dict[str, Any]


class Shared:
    """This process's place among those that share a port."""

    def __init__(self, folder: Path) -> None:
        """Take a number.

        Raises:
            OSError: The folder cannot be used.
        """
        self._folder = folder
        self._lock, self.number = self._take()
        self._ending = threading.Event()

    def write_on(self, make: Callable[[], tuple[str, Page]]) -> None:
        """Have a thread write what this process would say, so that a blocked event loop is told of too."""

        def write() -> None:
            while True:
                with suppress(Exception):  # what cannot be made or written now comes with the next
                    self.write(*make())
                if self._ending.wait(_WRITE_SECONDS):
                    return

        threading.Thread(target=write, name="metrics-writer", daemon=True).start()

    def write(self, text: str, page: Page) -> None:
        """Write what this process would say."""
        new = self._folder / f"{self.number}.new"
        new.write_bytes(orjson.dumps({"text": text, "page": page}))
        new.replace(self._folder / f"{self.number}.json")

    def others(self) -> dict[int, tuple[str, Page]]:
        """What each other living process would say, by its number."""
        found = {}
        for path in sorted(self._folder.glob("*.json")):
            number = int(path.stem)
            if number != self.number and self._lives(number):
                told = orjson.loads(path.read_bytes())
                found[number] = (told["text"], told["page"])
        return found

    def end(self) -> None:
        """Give the number back."""
        self._ending.set()
        with suppress(OSError):
            (self._folder / f"{self.number}.json").unlink()
        with suppress(OSError):
            os.close(self._lock)

    def _take(self) -> tuple[int, int]:
        for number in range(_MOST_PROCESSES):
            lock = os.open(self._folder / f"{number}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
            else:
                # What one before it has written is not this one's.
                (self._folder / f"{number}.json").unlink(missing_ok=True)
                return lock, number
        raise OSError(f"{_MOST_PROCESSES} processes write their metrics to {self._folder}")

    def _lives(self, number: int) -> bool:
        lock = os.open(self._folder / f"{number}.lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False


def merged(texts: dict[int, str], here: int, once: Iterable[str]) -> str:
    """Make one page of the pages of several processes.

    Args:
        texts: By the number of the process, in Prometheus's text format.
        here: The process that answers.
        once: The metrics that are everybody's: only this process's word counts, and without a label.
    """
    everybodys = frozenset(once)
    families: dict[str, tuple[list[str], list[str]]] = {}
    for number, text in sorted(texts.items(), key=lambda each: each[0] != here):
        head: list[str] = []
        lines: list[str] = []
        name = ""
        for line in text.splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                head, lines = families.setdefault(name, ([], []))
                is_first = not head
            if line.startswith("#"):
                if is_first:
                    head.append(line)
            elif name not in everybodys:
                lines.append(_labelled(line, number))
            elif number == here:
                lines.append(line)
    return "".join(f"{line}\n" for head, lines in families.values() for line in (*head, *lines))


def _labelled(line: str, number: int) -> str:
    found = _SAMPLE.fullmatch(line)
    if found is None:
        return line
    name, labels, rest = found.groups()
    return f'{name}{{worker="{number}"{"," if labels else ""}{labels or ""}}} {rest}'


def added(pages: Iterable[Page]) -> Page:
    """Add up the figures of several processes, in the form in which each has them."""
    sums: Page = {}
    for page in pages:
        for name, value in page.items():
            if isinstance(value, dict):
                sums[name] = added([sums.get(name, {}), value])
            elif isinstance(value, list):
                sums[name] = _added_requests([*sums.get(name, []), *value])
            else:
                sums[name] = sums.get(name, 0) + value
    return sums


def _added_requests(counts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    for each in counts:
        kind = tuple(sorted((name, value) for name, value in each.items() if name != "count"))
        sums[kind] = {**each, "count": each["count"] + sums.get(kind, {"count": 0})["count"]}
    return list(sums.values())
