"""What came with this turn, told apart from what the thread keeps of earlier ones.

Input keys stay in the thread's state, so the state alone does not say whether a value was sent now. Each turn
leaves a digest of them, and of what the user has said; the next one compares.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from langchain import agents
from langchain.agents.middleware.types import PrivateStateAttr
from langchain_core.messages import AnyMessage, HumanMessage

from .attachments import without_names
from .problems import InputProblem

# Only from where a name may begin: tried at each letter, a long word would take the time of its square.
_FILE_NAME: Final = re.compile(r"(?<![\w./-])[\w./-]*\w\.(?:csv|parquet|stl|json)\b", re.IGNORECASE)
_SAID: Final = "messages"


class TurnState(agents.AgentState[Any], total=False):
    """Adds the digests that the last turn left; neither callers nor other agents see them."""

    left: Annotated[dict[str, str], PrivateStateAttr]


@dataclass(frozen=True)
class Turn:
    """What came with this turn."""

    said: Sequence[HumanMessage]
    """What the user said that no turn has taken in."""
    sent: Mapping[str, Any]
    """The input keys whose values came now."""
    attached: Mapping[str, Any]
    """What was attached, as input keys."""

    def named_file(self, *endings: str) -> str | None:
        """The name of the file that the user's latest message mentions, if one does.

        Raises:
            InputProblem: It mentions several.
        """
        for message in reversed(self.said):
            found: list[str] = _FILE_NAME.findall(without_names(message.text))
            names = sorted({name for name in found if name.lower().endswith(endings)})
            if len(names) > 1:
                raise several(", ".join(names))
            if names:
                return names[0]
        return None


def several(what: str) -> InputProblem:
    """What is told where only one file can be meant."""
    message = f"More than one file is meant ({what[:300]}), and one is worked on at a time."
    return InputProblem(
        "several_files", message, "Name or attach one; ask about the other in a message of its own."
    )


def said_now(messages: Sequence[AnyMessage]) -> list[HumanMessage]:
    """What the user said since the last answer."""
    said: list[HumanMessage] = []
    for message in reversed(messages):
        if not isinstance(message, HumanMessage):
            break
        said.insert(0, message)
    return said


def sent_now(state: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The input keys whose values are not those that the last turn left."""
    left = state.get("left") or {}
    return {
        key: state[key] for key in keys if state.get(key) is not None and _digest(state[key]) != left.get(key)
    }


def was_edited(state: Mapping[str, Any]) -> bool:
    """Whether something that the user said in an earlier turn was put in other words since."""
    before = (state.get("left") or {}).get(_SAID)
    return before is not None and before != _digest(_words(state["messages"]))


def not_seen(state: Mapping[str, Any], said: Sequence[HumanMessage]) -> list[HumanMessage]:
    """Those messages that no turn has taken in yet.

    A turn that was ended before it answered leaves what the user said unanswered, and what it named taken in.
    """
    before = (state.get("left") or {}).get(_SAID)
    words = _words(state["messages"])
    for new in range(len(said)):
        if before == _digest(words[: len(words) - new]):
            return list(said[len(said) - new :])
    return list(said)


def left_behind(
    state: Mapping[str, Any], keys: Sequence[str], messages: Sequence[AnyMessage]
) -> dict[str, str]:
    """The digests for the next turn to compare with."""
    kept = {key: _digest(state[key]) for key in keys if state.get(key) is not None}
    return {**kept, _SAID: _digest(_words(messages))}


def _words(messages: Sequence[AnyMessage]) -> list[str]:
    return [message.text for message in messages if isinstance(message, HumanMessage)]


def _digest(value: object) -> str:
    digest = hashlib.sha256()
    # Piece by piece: written in one, a large value holds up the event loop from within a thread too.
    for piece in json.JSONEncoder(sort_keys=True, default=str).iterencode(value):
        digest.update(piece.encode())
    return digest.hexdigest()[:32]
