"""What stands between a draft and the customer: the rules it must keep, and the question to the reviewer.

The rules are plain code, so that they hold whatever model wrote the draft.
"""

from __future__ import annotations

import re
from typing import Any, Final

from graphs.support.state import State, customer_text

ACTION: Final = "send_reply"  # what a reviewer is asked to let happen
MAX_REPLY_CHARACTERS: Final = 4_000

_CURRENCY: Final = r"(?:€|\$|£|EUR|USD|GBP|euros?\b|dollars?\b|pounds?\b)"
_AMOUNT: Final = r"(\d+(?:[.,]\d{3})*(?:[.,]\d{1,2})?)"
_MONEY: Final = re.compile(rf"{_CURRENCY}\s*{_AMOUNT}|{_AMOUNT}\s*{_CURRENCY}", re.IGNORECASE)
_PAYING: Final = re.compile(r"refund|reimburs|credit|compensat|\bback\b|voucher|goodwill", re.IGNORECASE)
_GUARANTEE: Final = re.compile(r"\bguarantee|\bpromise|\bdefinitely\b|\b100 ?%", re.IGNORECASE)
_CARD_OR_IBAN: Final = re.compile(
    r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)|\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"
)


def check_reply(reply: str, policies: list[dict[str, Any]]) -> list[str]:
    """Name every rule that a reply breaks; of the policies it was drafted from, the highest limit holds."""
    found = []
    if not 0 < len(reply.strip()) <= MAX_REPLY_CHARACTERS:
        found.append(f"The reply must have 1 to {MAX_REPLY_CHARACTERS:,} characters.")
    if mask(reply) != reply:
        found.append("The reply contains a card or account number.")
    citations = [f"[{policy['id']}]" for policy in policies]
    if not any(citation in reply for citation in citations):
        found.append(f"The reply must cite its policy: {' or '.join(citations)}.")
    limit = max((policy["refund_limit"] for policy in policies), default=0.0)
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", mask(reply)):
        most = max((_amount(match) for match in _MONEY.finditer(sentence)), default=0.0)
        if most > limit and _PAYING.search(sentence):
            found.append(f"{most:,.2f} is promised, but {limit:,.2f} is the most: “{sentence}”")
        if _GUARANTEE.search(sentence):
            found.append(f"Nobody may give a guarantee: “{sentence}”")
    return found


def mask(text: str) -> str:
    """Replace all but the last four characters of each card and bank account number."""
    return _CARD_OR_IBAN.sub(
        lambda match: f"[number ending {match[0][-4:]}]" if _has_check_digits(match[0]) else match[0], text
    )


def _has_check_digits(number: str) -> bool:
    # Luhn's for cards, ISO 7064's for IBANs; order and parcel numbers seldom have them.
    plain = re.sub(r"[ -]", "", number)
    if plain.isdigit():
        digits = [int(digit) for digit in reversed(plain)]
        return sum(digits[0::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _amount(match: re.Match[str]) -> float:
    # A separator before three digits groups thousands; any other is the decimal point.
    return float(re.sub(r"[.,](?=\d{3}\b)", "", match[1] or match[2]).replace(",", "."))


def proposed(state: State) -> dict[str, Any]:
    """The arguments with which the reply would be sent."""
    return {"reply": state["draft"], "category": state["category"]}


def question(state: State) -> dict[str, Any]:
    """Build the interrupt's value: LangChain's `HITLRequest`, and what agent inboxes read instead of it.

    The keys beside it are no part of a HITLRequest: agent-inbox takes the arguments from `arguments`, and
    releases from before that request from `action_request`, with what is allowed in `config`.
    """
    decision, compliance = state["decision"], state["compliance"]
    parts = {
        "The last answer was not usable": decision["note"] if decision.get("type") == "unusable" else None,
        # Masked: the reviewer needs the case, and inboxes and their logs are no place for card numbers.
        "Customer": mask(customer_text(state["messages"]))[:1_000],
        "Wishes of the customer": "; ".join(state.get("remembered", {}).get("wishes", [])),
        "Policies": ", ".join(f"{policy['id']} ({policy['title']})" for policy in state["policy"]),
        "Compliance objects": " ".join(compliance["findings"]),
        "Rewritten, because": " ".join(compliance["sent_back_for"]),
        "Answers": "approve or edit to send it, reject or respond with a message to have it written anew, "
        "reject without one to send nothing.",
    }
    description = "\n\n".join(f"**{title}:** {text}" for title, text in parts.items() if text)
    args = proposed(state)
    return {
        "action_requests": [{"name": ACTION, "args": args, "description": description, "arguments": args}],
        "review_configs": [
            {"action_name": ACTION, "allowed_decisions": ["approve", "edit", "reject", "respond"]}
        ],
        "action_request": {"action": ACTION, "args": args},
        "config": dict.fromkeys(("allow_ignore", "allow_respond", "allow_edit", "allow_accept"), True),
        "description": description,
    }
