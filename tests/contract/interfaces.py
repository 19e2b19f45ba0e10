"""What three public interfaces read in a pause and send as its answer, as facts, in our own words.

Read in the files of these repositories:

- langchain-ai/agent-chat-ui at fdc87e6: src/lib/agent-inbox-interrupt.ts and, in src/components/thread/,
  messages/ai.tsx, agent-inbox/utils.ts, agent-inbox/hooks/use-interrupted-actions.tsx
- langchain-ai/agent-inbox at f38301b, in src/components/agent-inbox/: contexts/utils.ts, utils.ts,
  contexts/ThreadContext.tsx, hooks/use-interrupted-actions.tsx
- langchain-ai/deep-agents-ui at f6a4f34, in src/app/: hooks/useChat.ts, components/ChatInterface.tsx,
  components/ChatMessage.tsx, components/ToolApprovalInterrupt.tsx
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shown:
    """What the person at the interface sees and may do."""

    action: str
    args: dict[str, Any]
    buttons: frozenset[str]


def agent_chat_ui_shows(value: Any, messages: Sequence[Mapping[str, Any]]) -> Shown | None:
    """None where it shows raw JSON without a button, or nothing at all."""
    requests, configs = value.get("action_requests"), value.get("review_configs")
    if not requests or not configs:
        return None
    if not all(isinstance(one.get("name"), str) and isinstance(one.get("args"), dict) for one in requests):
        return None
    if not all(isinstance(one.get("allowed_decisions"), list) for one in configs):
        return None
    # It draws the pause beneath the last message if an agent or a tool wrote it, else only while neither has
    # written anything: a pause after a person's second message shows nowhere.
    if messages[-1]["type"] == "human" and any(one["type"] in ("ai", "tool") for one in messages):
        return None
    config = next((one for one in configs if one["action_name"] == requests[0]["name"]), configs[0])
    buttons = frozenset(config["allowed_decisions"]) & {"approve", "edit", "reject"}
    return Shown(requests[0]["name"], requests[0]["args"], buttons)


def deep_agents_ui_shows(value: Any, messages: Sequence[Mapping[str, Any]]) -> Shown | None:
    """None where it shows no button: it draws the pause in place of a call in the last message."""
    requests = {one["name"]: one for one in value.get("action_requests") or ()}
    for call in messages[-1].get("tool_calls") or ():
        if call["name"] in requests and call["args"]:
            # It looks for review configs under other names than are sent, and then allows these three.
            request = requests[call["name"]]
            return Shown(request["name"], request["args"], frozenset({"approve", "edit", "reject"}))
    return None


def agent_inbox_shows(value: Any, messages: Sequence[Mapping[str, Any]]) -> Shown | None:
    """None where it says that the schema is improper."""
    if value.get("action_requests"):
        request = value["action_requests"][0]
        allowed = value["review_configs"][0]["allowed_decisions"]
        # What LangChain names `args` it looks for under `arguments`.
        names = {"approve": "accept", "edit": "edit", "reject": "response"}
        buttons = frozenset(names[one] for one in allowed if one in names)
        return Shown(request["name"], request.get("arguments") or {}, buttons)
    return earlier_agent_inbox_shows(value, messages)


def earlier_agent_inbox_shows(value: Any, messages: Sequence[Mapping[str, Any]]) -> Shown | None:
    """The same before it knew a HITLRequest."""
    request = value[0] if isinstance(value, list) else value
    if "action_request" not in request or "config" not in request:
        return None
    names = {"accept": "accept", "edit": "edit", "respond": "response", "ignore": "ignore"}
    buttons = frozenset(names[name] for name in names if request["config"].get(f"allow_{name}"))
    return Shown(request["action_request"]["action"], request["action_request"]["args"], buttons)


def hitl(*decisions: dict[str, Any]) -> dict[str, Any]:
    """The resume value of agent-chat-ui and deep-agents-ui, and of LangChain's documentation."""
    return {"decisions": list(decisions)}


@dataclass(frozen=True)
class Interface:
    """One of them: how it shows a pause, and what each of its buttons sends as `command.resume`."""

    shows: Callable[[Any, Sequence[Mapping[str, Any]]], Shown | None]
    approve: Callable[[Shown], Any]
    edit: Callable[[Shown, dict[str, Any]], Any]
    """With the arguments as changed in the form, where every field is a text."""
    feedback: Callable[[str], Any]
    """The button beside the field for words."""
    decline: Callable[[], Any] | None
    """The button that wants no words; None where there is none."""


def _edited_action(shown: Shown, args: dict[str, Any]) -> dict[str, Any]:
    return hitl({"type": "edit", "edited_action": {"name": shown.action, "args": {**shown.args, **args}}})


def _inbox_request(shown: Shown, args: dict[str, Any]) -> dict[str, Any]:
    return {"action": shown.action, "args": {**shown.args, **args}}


AGENT_CHAT_UI = Interface(
    shows=agent_chat_ui_shows,
    approve=lambda shown: hitl({"type": "approve"}),
    edit=_edited_action,
    feedback=lambda text: hitl({"type": "reject", "message": text}),
    decline=None,
)
DEEP_AGENTS_UI = Interface(
    shows=deep_agents_ui_shows,
    approve=lambda shown: hitl({"type": "approve"}),
    edit=_edited_action,
    feedback=lambda text: hitl({"type": "reject", "message": text}),
    decline=lambda: hitl({"type": "reject", "message": ""}),
)
AGENT_INBOX = Interface(
    shows=agent_inbox_shows,
    approve=lambda shown: [{"type": "accept", "args": _inbox_request(shown, {})}],
    edit=lambda shown, args: [{"type": "edit", "args": _inbox_request(shown, args)}],
    feedback=lambda text: [{"type": "response", "args": text}],
    decline=lambda: [{"type": "ignore", "args": None}],
)
EARLIER_AGENT_INBOX = Interface(
    shows=earlier_agent_inbox_shows,
    approve=lambda shown: [{"type": "accept", "args": None}],
    edit=AGENT_INBOX.edit,
    feedback=AGENT_INBOX.feedback,
    decline=AGENT_INBOX.decline,
)
INTERFACES = {
    "agent-chat-ui": AGENT_CHAT_UI,
    "deep-agents-ui": DEEP_AGENTS_UI,
    "agent-inbox": AGENT_INBOX,
    "agent-inbox, earlier": EARLIER_AGENT_INBOX,
}

MARK_RESOLVED = {"agent-chat-ui": {"goto": "__end__"}, "deep-agents-ui": {"goto": "__end__", "update": None}}
"""The `command` of the button beside the others, which is to end the thread undecided."""
