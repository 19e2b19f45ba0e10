"""The written policies: markdown files with a TOML head, whose text is what customers may be told."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, Field

OTHER: Final = "other"  # the category of what fits no other; it has a policy too


class Policy(BaseModel, extra="forbid"):
    """One policy; `refund_limit` is the most money that a reply under it may promise."""

    id: str
    title: str
    category: str
    keywords: list[str]
    text: str = Field(min_length=1)
    auto_reply: bool = False
    refund_limit: float = 0.0

    def score(self, message: str) -> int:
        """How many of the keywords the message has, longer phrases counting for more."""
        return sum(
            len(keyword.split())
            for keyword in self.keywords
            if re.search(rf"\b{re.escape(keyword)}(?:s|d|ed|ing)?\b", message, re.IGNORECASE)
        )


def load_policy(file: Path) -> Policy:
    """Read one file; a ValueError names it when it is no policy."""
    try:
        _, head, text = file.read_text(encoding="utf-8").split("+++", 2)
        return Policy.model_validate({**tomllib.loads(head), "text": " ".join(text.split())})
    except ValueError as error:
        raise ValueError(f"{file.name} needs TOML between two +++ lines, then text: {error}") from error


POLICIES: Final = [load_policy(file) for file in sorted(Path(__file__).parent.glob("policies/*.md"))]
CATEGORIES: Final = [policy.category for policy in POLICIES]


def look_up(message: str, category: str) -> list[dict[str, Any]]:
    """The policies that apply, those of the category first, then all whose keywords the message has."""
    fitting = [policy for policy in POLICIES if policy.category == category or policy.score(message)]
    fitting.sort(key=lambda policy: (policy.category != category, -policy.score(message)))
    return [policy.model_dump(exclude={"keywords"}) for policy in fitting]
