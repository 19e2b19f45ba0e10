"""What the models are told, and what the offline model does instead of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage

from graphs.kit.offline import Call, Step, in_order, tool_outputs, user_text

SUPERVISOR: Final = """\
You lead a small biostatistics team. The outcome of `read_input` names the sections that the user sent:
`design` goes to the designer, `survival` to the survival_analyst, `interim` to the monitor. Ask each one
whose section is new, or that the question is about; then answer in plain sentences with the figures and every
assumption. Never compute a figure yourself. You give statistics, not medical advice."""

DESIGNER: Final = """\
You size trials: call `size_trial`. Pass power, alpha, per_group or dropout only where the question asks for
another value than the design has. Then state the sample, the power and the assumptions."""

SURVIVAL_ANALYST: Final = """\
You compare survival: call `compare_groups` once. Then state medians, the log-rank p-value, the hazard ratio
and the assumptions. A large p-value does not show that groups are equal."""

MONITOR: Final = """\
You judge interim looks: call `judge_look` once. Then state the boundary, the decision, the conditional power
and the assumptions. The decision is a recommendation to the monitoring committee."""

_ASKS: Final = {
    "design": (
        "ask_designer",
        "size_trial",
        re.compile(r"sample|size|power|design|subjects|patients|enrol|alpha"),
    ),
    "survival": (
        "ask_survival_analyst",
        "compare_groups",
        re.compile(r"surviv|kaplan|log.?rank|hazard|median"),
    ),
    "interim": (
        "ask_monitor",
        "judge_look",
        re.compile(r"interim|look|stop|go on|continue|boundar|futil|monitor"),
    ),
}


def supervisor_rule(messages: Sequence[BaseMessage]) -> Step:
    """Ask the member of each section that was sent, then report what they found."""
    done = tool_outputs(messages)
    wanted = _wanted(json.loads(done["read_input"]), user_text(messages).lower())
    for section in wanted:
        handover = _ASKS[section][0]
        if handover not in done:
            return Call(handover, task=f"Work on the {section} that was sent.")
    return "\n\n".join(done[_ASKS[section][1]] for section in wanted)


def designer_rule(messages: Sequence[BaseMessage]) -> Step:
    """Size the design, with the numbers that the question names."""
    done = tool_outputs(messages)
    return done.get("size_trial") or Call("size_trial", **what_if(user_text(messages)))


survival_rule = in_order(
    Call("compare_groups"), then=lambda messages: tool_outputs(messages)["compare_groups"]
)
monitor_rule = in_order(Call("judge_look"), then=lambda messages: tool_outputs(messages)["judge_look"])


def _wanted(told: dict[str, Any], text: str) -> list[str]:
    sections: list[str] = told["sections"]
    if told["new"]:
        return sections
    # A follow-up: only what the question is about, everything when that is not clear.
    return [section for section in sections if _ASKS[section][2].search(text)] or sections


_FRACTION: Final = r"(\d+(?:\.\d+)?\s*%|0?\.\d+)"
_WHAT_IF: Final = {
    "power": rf"{_FRACTION}\s+power|power\s+(?:of\s+|to\s+|at\s+|=\s*|is\s+)?{_FRACTION}",
    "alpha": rf"{_FRACTION}\s+alpha|alpha\s+(?:of\s+|to\s+|at\s+|=\s*|is\s+)?{_FRACTION}",
    "dropout": rf"{_FRACTION}\s+drop.?out|drop.?out\s+(?:of\s+|to\s+|at\s+|=\s*|is\s+)?{_FRACTION}",
    "per_group": r"(\d[\d,]*)\s+(?:\w+\s+)?(?:per|a|in each|each)\s+(?:group|arm)",
}


def what_if(text: str) -> dict[str, Any]:
    """Read power, alpha, dropout and group size from a question; what is said twice is left alone."""
    asked: dict[str, Any] = {}
    for key, pattern in _WHAT_IF.items():
        said = [next(part for part in match if part) for match in _all_groups(pattern, text.lower())]
        if len(said) == 1:
            asked[key] = int(said[0].replace(",", "")) if key == "per_group" else _fraction(said[0])
    return asked


def _all_groups(pattern: str, text: str) -> list[tuple[str, ...]]:
    return [match.groups() for match in re.finditer(pattern, text)]


def _fraction(text: str) -> float:
    return float(text.rstrip("% ")) / 100 if text.endswith("%") else float(text)
