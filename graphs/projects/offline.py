"""What the offline model does in the place of a real one: it calls the tools whose topic was asked about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from langchain_core.messages import BaseMessage

from graphs.kit.offline import Call, Step, in_order, tool_outputs, user_text

_TOPICS: Final = {
    "find_critical_path": r"critical|path|schedule|slack|duration|how long|when|finish",
    "simulate_finish": r"risk|probab|chance|likel|sure|deadline|late\b|\d{4}-|when|finish|\bp\d\d|percent",
    "draw_gantt": r"gantt|chart|draw|plot|timeline",
}


def script(messages: Sequence[BaseMessage]) -> Step:
    """Call each tool whose topic the question touches, all where it touches none; then say what they said."""
    asked = user_text(messages)
    wanted = [name for name, words in _TOPICS.items() if re.search(words, asked.lower())] or list(_TOPICS)
    day = re.search(r"\b\d{4}-\d{2}-\d{2}\b", asked)
    args = {"simulate_finish": {"by_date": day and day[0]}}
    calls = [Call(name, **args.get(name, {})) for name in wanted]
    return in_order(*calls, then=lambda said: "\n\n".join(tool_outputs(said).values()))(messages)
