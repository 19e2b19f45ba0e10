"""The written policies: markdown files with a TOML head, read once when the module is imported.

A policy's text is what customers may be told. To add one, copy a file of `policies/`.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "policies"
OTHER: Final = "other"
"""The category of what fits no other; its policy is the fallback, so there is always one to cite."""

MAX_POLICIES: Final = 3


@dataclass(frozen=True)
class Policy:
    """One policy; `refund_limit` is the most money that a reply under it may promise."""

    id: str
    title: str
    category: str
    keywords: tuple[str, ...]
    text: str
    auto_reply: bool = False
    refund_limit: float = 0.0

    def score(self, message: str) -> int:
        """How many of the keywords the message has, longer phrases counting for more."""
        return sum(
            len(keyword.split())
            for keyword in self.keywords
            if re.search(rf"\b{re.escape(keyword)}(?:s|d|ed|ing)?\b", message, re.IGNORECASE)
        )


def load_policies(folder: Path) -> tuple[Policy, ...]:
    """Read every policy of a folder.

    Raises:
        ValueError: A file has no TOML head, a wrong field, or no text, or the fallback is missing; the
            message names the file.
    """
    policies = []
    for file in sorted(folder.glob("*.md")):
        try:
            _, head, text = file.read_text(encoding="utf-8").split("+++", 2)
            fields = tomllib.loads(head)
            policy = Policy(
                **{**fields, "keywords": tuple(fields["keywords"]), "text": " ".join(text.split())}
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file.name} is no policy (TOML between two +++ lines, then text): {error}"
            ) from error
        if not policy.text:
            raise ValueError(f"{file.name} has no text")
        policies.append(policy)
    if not any(policy.category == OTHER for policy in policies):
        raise ValueError(f"{folder} has no policy of the category '{OTHER}', which is the fallback")
    return tuple(policies)


POLICIES: Final = load_policies(FOLDER)
CATEGORIES: Final = tuple(dict.fromkeys(policy.category for policy in POLICIES))


def best_category(message: str) -> str:
    """The category of the policy that fits the message best by its keywords; OTHER where none does."""
    best = max(POLICIES, key=lambda policy: policy.score(message))
    return best.category if best.score(message) else OTHER


def look_up(message: str, category: str) -> list[dict[str, Any]]:
    """The policies that apply: those of the category, then those whose keywords the message has.

    Of the latter, those that need a human come first, so that the cut at MAX_POLICIES never hides one.
    They are copied into the state as they are now: a run that waits for its approval while a policy is
    changed or removed goes on with what it was drafted from.
    """
    scores = {policy.id: policy.score(message) for policy in POLICIES}
    fitting = [policy for policy in POLICIES if policy.category == category or scores[policy.id] > 0]
    fitting.sort(key=lambda policy: (policy.category != category, policy.auto_reply, -scores[policy.id]))
    return [{**asdict(policy), "keywords": list(policy.keywords)} for policy in fitting[:MAX_POLICIES]]
