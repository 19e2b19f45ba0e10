"""What the models are told, and what the offline model does instead of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from langchain_core.messages import BaseMessage

from graphs.kit.offline import Call, Step, in_order, tool_outputs, user_text
from graphs.trials.tools import NOT_SENT

SUPERVISOR: Final = """You lead a small biostatistics team; each says so when nothing was sent for it. Ask
those that the question is about, all three if it is open; then answer in plain sentences with the figures and
every assumption. Never compute a figure yourself. You give statistics, not medical advice."""
DESIGNER: Final = "Call `size_trial`, with power if the question names one; state sample, power, assumptions."
ANALYST: Final = """Call `compare_groups` once. Then state medians, the log-rank p-value and the assumptions.
A large p-value does not show that groups are equal."""
MONITOR: Final = "Call `judge_look`; state boundary, decision (as advice), conditional power, assumptions."

TOPICS: Final = {
    "designer": ("size_trial", r"sample|size|power|design|subjects|patients|enrol"),
    "analyst": ("compare_groups", r"surviv|kaplan|log.?rank|median|groups? differ"),
    "monitor": ("judge_look", r"interim|look|stop|go on|continue|boundar|futil"),
}
POWER: Final = re.compile(r"(\d+(?:\.\d+)?)\s*% power|power (?:of |at |to )?(\d+(?:\.\d+)?)\s*%")


def supervisor_rule(messages: Sequence[BaseMessage]) -> Step:
    """Ask those whom the question concerns, all where it is open or nothing was sent for them; report."""
    done = tool_outputs(messages)
    asked = [name for name, (_, words) in TOPICS.items() if re.search(words, user_text(messages).lower())]
    for names in (asked, list(TOPICS)):
        for name in names:
            if f"ask_{name}" not in done:
                return Call(f"ask_{name}", task="Work on what was sent.")
        answers = [done[TOPICS[name][0]] for name in names]
        if told := [answer for answer in answers if not answer.startswith(NOT_SENT)]:
            return "\n\n".join(answers if names is asked else told)
    return f"{NOT_SENT} 'design', 'survival' or 'interim'."


def designer_rule(messages: Sequence[BaseMessage]) -> Step:
    """Size the design, with the power that the question names."""
    said = POWER.search(user_text(messages).lower())
    args = {"power": float(said[1] or said[2]) / 100} if said else {}
    return tool_outputs(messages).get("size_trial") or Call("size_trial", **args)


analyst_rule = in_order(Call("compare_groups"), then=lambda said: tool_outputs(said)["compare_groups"])
monitor_rule = in_order(Call("judge_look"), then=lambda said: tool_outputs(said)["judge_look"])
