"""Where everything the command says goes, in its two forms: for a person, and JSON.

For a person, answers go to standard output, progress and errors to standard error. With --json, standard
output carries JSON and nothing else, errors included; standard error stays silent.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sdk_client import errors

NAME = "holdfast"
WIDTH_WITHOUT_TERMINAL = 160
"""Columns. Rich takes 80 for a pipe, at which our tables would be cut."""

# Control characters, and those that reorder text: what an agent wrote could otherwise clear the screen of the
# person who approves it, or show something else than what will be sent. So could what nobody sees (joiners
# aside, which many languages are written with).
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)


class ExitCode(IntEnum):
    """What the exit code of the command means."""

    OK = 0
    RUN_FAILED = 1
    USAGE = 2
    NEEDS_APPROVAL = 3
    REFUSED = 4
    UNAVAILABLE = 5
    BUG = 70
    INTERRUPTED = 130


EXIT_CODES_HELP = (
    "Exit codes: 0 ok · 1 the run failed · 2 usage or configuration · 3 waits for approval · "
    "4 refused or already decided · 5 platform unavailable, outcome unknown or deadline passed · "
    "70 a fault of this command · 130 interrupted."
)

# The first that fits counts, so a subclass stands before its parent.
_CODES: tuple[tuple[type[errors.HoldfastError], ExitCode], ...] = (
    (errors.ConfigurationError, ExitCode.USAGE),
    (errors.ApprovalNeededError, ExitCode.NEEDS_APPROVAL),
    (errors.RunFailedError, ExitCode.RUN_FAILED),
    (errors.RefusedError, ExitCode.REFUSED),
    (errors.AlreadyDecidedError, ExitCode.REFUSED),
    (errors.ThreadBusyError, ExitCode.REFUSED),
    (errors.HoldfastError, ExitCode.UNAVAILABLE),
)


class Interrupted(errors.HoldfastError):
    """The person stopped waiting; what was started on the server goes on."""


def exit_code(error: errors.HoldfastError) -> ExitCode:
    """The exit code that stands for an error."""
    if isinstance(error, Interrupted):
        return ExitCode.INTERRUPTED
    return next(code for kind, code in _CODES if isinstance(error, kind))


def printable(text: str) -> str:
    r"""Make text from elsewhere harmless on a terminal: control characters show as \x1b and the like."""
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text.replace("\r\n", "\n"))


def command() -> str:
    """How this command was called, for a hint that can be pasted where it is read."""
    called = Path(sys.argv[0])
    if called.name != NAME or shutil.which(NAME) == str(called):
        return NAME
    return shlex.quote(str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called))


def plain_table() -> Table:
    """A table with nothing but a line under its head, which reads the same in a log as on a terminal."""
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


class Output:
    """One command's output: `say` and `progress` for a person, `document` and `line` for --json."""

    def __init__(self, *, as_json: bool, debug: bool = False) -> None:
        """Choose the form; `debug` adds tracebacks on standard error."""
        self.as_json = as_json
        self.debug = debug
        self.answers = _console(stderr=False)
        self.progress = _console(stderr=True, quiet=as_json)

    def say(self, text: str = "") -> None:
        """Print a line of the answer for a person; with --json nothing."""
        if not self.as_json:
            self.answers.print(printable(text), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line beside the answer, on standard error; with --json nothing."""
        self.progress.print(printable(text), soft_wrap=True, style="dim")

    def document(self, value: object) -> None:
        """Print the one JSON document of a command; for a person nothing."""
        if self.as_json:
            print(to_json(value, indent=2), flush=True)

    def line(self, value: object) -> None:
        """Print one JSON line of a stream; for a person nothing."""
        if self.as_json:
            print(to_json(value), flush=True)

    def error(self, error: errors.HoldfastError, cure: str | None = None, *, in_stream: bool = False) -> None:
        """Print an error: a line and its cure on standard error, or JSON on standard output."""
        if self.as_json:
            (self.line if in_stream else self.document)({"error": describe_error(error)})
        else:
            self.progress.print("error:", style="bold red", end=" ")
            self.progress.print(printable(str(error)), soft_wrap=True)
            if cure:
                self.progress.print(printable(cure), soft_wrap=True)
        if self.debug:
            Console(stderr=True).print_exception()


def describe_error(error: errors.HoldfastError) -> dict[str, Any]:
    """What --json tells of an error: its type and every attribute that is known."""
    known = {name: value for name, value in vars(error).items() if value is not None}
    return {"type": type(error).__name__, **known}


def to_json(value: object, indent: int | None = None) -> str:
    """Write anything the client returns as JSON text."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return json.dumps(value, default=_as_json, indent=indent, ensure_ascii=encoding != "utf8")


def _as_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    return str(value)


def _console(*, stderr: bool, quiet: bool = False) -> Console:
    console = Console(stderr=stderr, quiet=quiet, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    return console
