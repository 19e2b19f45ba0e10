"""What the offline model does in the place of a real one: it calls the tools whose topic was asked about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage

from graphs.kit.offline import Call, Step, failure, tool_outputs, user_text
from graphs.trials.tools import NOT_SENT

TOPICS: Final = {
    "size_trial": r"sample|size|power|design|subjects|patients|enrol",
    "compare_groups": r"surviv|kaplan|log.?rank|median|groups? differ",
    "judge_look": r"interim|look|stop|go on|continue|boundar|futil",
}
POWER: Final = re.compile(r"(\d+(?:\.\d+)?)\s*% power|power (?:of |at |to )?(\d+(?:\.\d+)?)\s*%")


def script(messages: Sequence[BaseMessage]) -> Step:
    """Call the tools that the question concerns, all if it is open or nothing was sent for them; report."""
    if told := failure(messages):
        return told
    done, text = tool_outputs(messages), user_text(messages).lower()
    asked = [name for name, words in TOPICS.items() if re.search(words, text)]
    for names in (asked, list(TOPICS)):
        for name in names:
            if name not in done:
                return Call(name, **_named_power(text) if name == "size_trial" else {})
        answers = [done[name] for name in names]
        if sent := [answer for answer in answers if not answer.startswith(NOT_SENT)]:
            return "\n\n".join(answers if names is asked else sent)
    return f"{NOT_SENT} 'design', 'survival' or 'interim'."


def _named_power(text: str) -> dict[str, Any]:
    said = POWER.search(text)
    return {"power": float(said[1] or said[2]) / 100} if said else {}
