"""What the fake providers say: the same decisions behind each protocol.

A request is boiled down to what a model would go by, and a `Mind` decides on the answer. The fakes put it
into their provider's words. A mind of your own makes an agent under test go any way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

_ORDER = re.compile(r"^call (?P<tool>[\w-]+) (?P<arguments>\{.*\})$", re.DOTALL)
_PIECE_CHARACTERS = 7


@dataclass(frozen=True)
class Asked:
    """What a request comes to."""

    tools: Sequence[str]
    """The tools that are offered, by name."""
    user_text: str
    """What the user said last."""
    results: Sequence[str]
    """What the tools have said since."""


@dataclass(frozen=True)
class Call:
    """A tool is to be called."""

    tool: str
    arguments: dict[str, Any] = field(default_factory=dict)
    garbled: str | None = None
    """What is streamed in place of the arguments."""

    @property
    def json(self) -> str:
        """The arguments, as they are streamed."""
        return json.dumps(self.arguments) if self.garbled is None else self.garbled


@dataclass(frozen=True)
class Answer:
    """What the model says."""

    text: str = ""
    calls: Sequence[Call] = field(default_factory=tuple)
    thought: str = ""
    """What comes before it, of a model that thinks."""
    cut: bool = False
    """It reaches the limit on tokens here."""
    declined: bool = False
    """The provider will not let the model answer; `text` is what it says of it, if anything."""


Mind = Callable[[Asked], Answer]


@dataclass(frozen=True)
class Fault:
    """What happens instead of an answer, once."""

    status: int = 0
    """0 breaks the connection off within the answer; 200 ends the answer with the provider's own error."""
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "no"


class LostError(Exception):
    """Raised in the middle of an answer, so that the server closes the connection."""


def obeys(asked: Asked) -> Answer:
    """Call the tool that the user names, as in `call add {"a": 1}`; then say what it said."""
    if asked.results:
        return Answer(text="The tool says: " + " ".join(asked.results))
    order = _ORDER.match(asked.user_text)
    if order is None or order["tool"] not in asked.tools:
        return Answer(text=f"You said: {asked.user_text}")
    return Answer(calls=[Call(order["tool"], json.loads(order["arguments"]))])


def pieces(text: str) -> list[str]:
    """Cut a text as it comes from a stream: somewhere, also within words and escapes."""
    return [text[at : at + _PIECE_CHARACTERS] for at in range(0, len(text), _PIECE_CHARACTERS)]


def in_turn(*answers: Answer) -> Mind:
    """Give these answers, one after the other, then the last one again and again."""
    waiting: list[Answer] = list(answers)
    return lambda asked: waiting.pop(0) if len(waiting) > 1 else waiting[0]
