"""What py-spy saw: stacks and how often, boiled down to functions and packages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_FRAME: Final = re.compile(r"(?P<function>.*) \((?P<file>[^()]*?)(?::\d+)?\)$")
# What is before these is the machine's own.
_PACKAGES: Final = "site-packages/"
_LIBRARY: Final = re.compile(r".*/lib/python3\.\d+/")
STANDARD_LIBRARY: Final = "Python's own"


@dataclass(frozen=True)
class Share:
    """A function or package, and its part of all samples."""

    name: str
    own: float
    """At the top of the stack: the time spent in itself."""
    with_callees: float
    """Anywhere in the stack."""


def shares(lines: Iterable[str], *, by_package: bool) -> list[Share]:
    """Read py-spy's raw format, `frame;frame;frame count` a line; the largest own share first."""
    own: Counter[str] = Counter()
    anywhere: Counter[str] = Counter()
    for line in lines:
        stack, _, times = line.strip().rpartition(" ")
        if not stack:
            continue
        names = [_name(frame, by_package=by_package) for frame in stack.split(";")]
        own[names[-1]] += int(times)
        for name in set(names):
            anywhere[name] += int(times)
    total = own.total()
    return [Share(name, count / total, anywhere[name] / total) for name, count in own.most_common()]


def _name(frame: str, *, by_package: bool) -> str:
    found = _FRAME.match(frame)
    if not found:
        return frame
    path = found["file"]
    if _PACKAGES in path:
        file = path.rsplit(_PACKAGES, 1)[1]
        package = file.split("/", 1)[0].removesuffix(".py")
    elif _LIBRARY.match(path) or path.startswith("<frozen"):
        file, package = _LIBRARY.sub("", path), STANDARD_LIBRARY
    else:  # a module of ours, and the checkout's own place is no one's business
        file = "/".join(path.split("/")[-2:])
        package = next((part for part in path.split("/") if part in _OURS), file)
    return package if by_package else f"{found['function']} ({file})"


_OURS: Final = ("langgraph_runtime_holdfast", "benchmarks")
