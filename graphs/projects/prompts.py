"""What the project models are told, and the rules of the offline model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from langchain_core.messages import BaseMessage

from graphs.kit.offline import Call, Rule, Step, in_order, tool_outputs, user_text

SUPERVISOR: Final = """You lead a project planning team. The plan (tasks, dates) is already in the state; do
not copy it. Ask only the members that the question needs, all three if it is open. Then answer in a few plain
sentences with the figures that matter and the assumptions. Invent no figures."""
SCHEDULER: Final = "Call find_critical_path, then report duration, finish date and critical path."
RISK_ANALYST: Final = """Call simulate_finish once, with by_date if the question names a date. Then report the
finish dates, the probabilities and the risks that matter."""
CHARTER: Final = "Call draw_gantt, then say what the chart shows. Do not repeat the specification."

_TOPICS: Final = {
    "scheduler": r"critical|path|schedule|slack|duration|how long|when|finish",
    "risk_analyst": r"risk|probab|chance|likel|sure|deadline|late\b|\d{4}-|when|finish|\bp\d\d|percent",
    "charter": r"gantt|chart|draw|plot|timeline",
}


def supervise(messages: Sequence[BaseMessage]) -> Step:
    """Hand over to each member whose topic the question touches, to all where it touches none."""
    asked = user_text(messages).lower()
    wanted = [name for name, words in _TOPICS.items() if re.search(words, asked)] or list(_TOPICS)
    done = tool_outputs(messages)
    for name in wanted:
        if f"ask_{name}" not in done:
            return Call(f"ask_{name}", task=asked[:500])
    return " ".join(text for name, text in done.items() if not name.startswith("ask_"))


def analyse_risk(messages: Sequence[BaseMessage]) -> Step:
    """Simulate, with the date that the question names."""
    day = re.search(r"\b\d{4}-\d{2}-\d{2}\b", user_text(messages))
    return call("simulate_finish", by_date=day and day[0])(messages)


def call(tool: str, **args: str | None) -> Rule:
    """The rule of a member with one tool: call it, then say what it said."""
    return in_order(Call(tool, **args), then=lambda messages: tool_outputs(messages)[tool])
