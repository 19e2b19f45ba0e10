"""Rules that a reply to a customer must keep; plain code, so that they hold whatever model wrote it."""

from __future__ import annotations

import re
from typing import Any, Final

from graphs.support.state import Finding

MAX_REPLY_CHARACTERS: Final = 4_000

_CARD: Final = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
_IBAN: Final = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_MONEY: Final = re.compile(
    r"(?:(?:€|\$|£|\b(?:EUR|USD|GBP))\s*(\d[\d,.]*)|\b(\d[\d,.]*)\s*(?:€|\$|£|(?:EUR|USD|GBP|euros?|dollars?|pounds?)\b))",
    re.IGNORECASE,
)
_PAYING: Final = re.compile(
    r"refund|reimburs|credit|compensat|pay (?:you )?back|voucher|goodwill", re.IGNORECASE
)
_GUARANTEE: Final = re.compile(
    r"\bguarantee[sd]?\b|\bpromise[sd]?\b|\bdefinitely\b|\bwithout fail\b|\b100 ?%", re.IGNORECASE
)
_NEGATION: Final = re.compile(
    r"(?:\b(?:not|never|cannot|unable to)|n['\u2019]t)(?:\s+\w+){0,2}\s+$", re.IGNORECASE
)
"""Closes what stands before a denied claim: "we cannot guarantee", "is not yet refunded"."""


def check_reply(reply: str, policies: list[dict[str, Any]]) -> list[Finding]:
    """Check a reply against every rule.

    Args:
        reply: What would be sent.
        policies: The policies it was drafted from; the highest `refund_limit` of them holds.

    Returns:
        The breaches, none if the reply may go.
    """
    found = personal_data(reply)
    if not reply.strip():
        found.append(_finding("empty_reply", "The reply is empty.", ""))
    if len(reply) > MAX_REPLY_CHARACTERS:
        found.append(
            _finding("reply_too_long", f"The reply is longer than {MAX_REPLY_CHARACTERS:,} characters.", "")
        )
    if not any(re.search(rf"\b{re.escape(policy['id'])}\b", reply) for policy in policies):
        ids = " or ".join(policy["id"] for policy in policies)
        found.append(_finding("policy_not_cited", f"The reply must cite its policy ({ids}).", ""))
    limit = max((policy["refund_limit"] for policy in policies), default=0.0)
    for sentence in sentences(reply):
        if _claims(_PAYING, sentence):
            most = max((_amount(match) for match in _MONEY.finditer(sentence)), default=0.0)
            if most > limit:
                message = f"{most:g} is promised; {limit:g} is the most under these policies."
                found.append(_finding("refund_above_limit", message, sentence))
        if _claims(_GUARANTEE, sentence):
            found.append(_finding("guarantee", "The reply gives a guarantee, which nobody may.", sentence))
    return found


def personal_data(text: str) -> list[Finding]:
    """Find card and bank account numbers; what is reported is masked too."""
    return [
        _finding("personal_data", "The reply contains a card or account number.", mask(number))
        for number in _numbers(text)
    ]


def mask(text: str) -> str:
    """Replace all but the last four characters of each card and bank account number."""
    for number in _numbers(text):
        text = text.replace(number, f"[number ending {number[-4:]}]")
    return text


def sentences(text: str) -> list[str]:
    """Split a text at its sentence ends and lines."""
    # Not after a digit's point: "EUR 1.50" is one sentence.
    return [part for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()]


def _claims(pattern: re.Pattern[str], sentence: str) -> bool:
    return any(not _NEGATION.search(sentence[: match.start()]) for match in pattern.finditer(sentence))


def _numbers(text: str) -> list[str]:
    cards = [match[0] for match in _CARD.finditer(text) if _luhn(match[0])]
    return cards + [match[0] for match in _IBAN.finditer(text) if _iban(match[0])]


def _luhn(number: str) -> bool:
    digits = [int(character) for character in number if character.isdigit()][::-1]
    return sum(digits[0::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


def _iban(number: str) -> bool:
    plain = number.replace(" ", "")
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _amount(match: re.Match[str]) -> float:
    digits = (match[1] or match[2]).rstrip(".,")
    # A last group of one or two digits is cents; every other separator groups thousands.
    whole, cents = re.fullmatch(r"(.*?)(?:[.,](\d{1,2}))?", digits).groups()  # type: ignore[union-attr]
    return float(f"{re.sub(r'[.,]', '', whole) or 0}.{cents or 0}")


def _finding(code: str, message: str, excerpt: str) -> Finding:
    return Finding(code=code, message=message, excerpt=mask(excerpt))
