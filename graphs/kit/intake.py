"""How a turn begins: the question is bounded, files are taken in, the input is checked.

What is wrong with the input is answered at once, under `problem` and as a message; no model is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from langchain.agents.middleware import hook_config
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import END, add_messages
from langgraph.runtime import Runtime
from langgraph.types import Command

from .attachments import File, said_object, take_files
from .context import Context, check_settings
from .datafolder import read_data_file
from .middleware import Middleware
from .offload import in_thread
from .problems import InputProblem, Problem
from .state import ToolAgentState
from .turn import Turn, TurnState, left_behind, not_seen, said_now, sent_now, several, was_edited

MAX_PROMPT_CHARACTERS: Final = 20_000
"""More than this is data, not a question; it would also fill the context of most models."""

MAX_JSON_BYTES: Final = 5_000_000
SHOWN_CHARACTERS: Final = 200
DATA_ONLY: Final = "Work on the data that I sent."
NOTHING_SAID: Final = Problem(
    code="nothing_said",
    message="There is no message of the user.",
    cure='Send one: {"messages": [{"role": "user", "content": "…"}]}.',
)
NEW_TURN: Final[dict[str, Any]] = {"result": None, "problem": None, "usage": None}
EDITED: Final = Problem(
    code="message_edited",
    message="An earlier message was changed, and nothing new was said: its answer stands as it was.",
    cure="Send the question as a new message, or run from the checkpoint before the old one.",
)

Check = Callable[[Any, Turn], Awaitable[dict[str, Any]]]
NodeCheck = Callable[[Any], Awaitable[dict[str, Any]]]


class NewTurn(Middleware):
    """The intake of an agent that takes messages and nothing else; what they hold is for the model to see."""

    @hook_config(can_jump_to=["end"])
    async def abefore_agent(self, state: ToolAgentState, runtime: Runtime[Context]) -> dict[str, Any]:
        """Clear the last turn's results, and end the run at once where nothing, or too much, was said."""
        said = said_now(state["messages"]) if "messages" in state else []
        if not said:
            return _refused(InputProblem(**NOTHING_SAID), [])
        try:
            check_settings()
            check_prompt(said)
        except InputProblem as problem:
            return _refused(problem, cut_overlong(said))
        return NEW_TURN


class Intake(Middleware):
    """Checks the input before anything runs."""

    state_schema = TurnState

    def __init__(
        self, check: Check, *, keys: Sequence[str], accept: Callable[[File], dict[str, Any]]
    ) -> None:
        """Take what the agent knows about its input.

        Args:
            check: Gets the state, with what was attached, and what came with this turn; returns an update,
                or raises InputProblem.
            keys: The input keys that stay in the thread.
            accept: Turns an attached file into input keys, or raises InputProblem.
        """
        super().__init__()
        self._check = check
        self._keys = keys
        self._accept = accept

    @hook_config(can_jump_to=["end"])
    async def abefore_agent(self, state: ToolAgentState, runtime: Runtime[Context]) -> dict[str, Any]:
        """Clear the last turn's results, and end the run at once where the input is of no use."""
        before: list[AnyMessage] = state.get("messages", [])
        messages: list[AnyMessage] = []
        try:
            update = await self._take_in({**state, "messages": before}, messages)
        except InputProblem as problem:
            update = _refused(problem, [*messages, *cut_overlong(said_now(before))])
            messages = update["messages"]
        merge: Any = add_messages
        told = merge(list(before), list(messages))
        left = await in_thread(left_behind, {**state, **update}, self._keys, told)
        return {**NEW_TURN, **update, "messages": messages, "left": left}

    async def _take_in(self, state: dict[str, Any], messages: list[AnyMessage]) -> dict[str, Any]:
        """Add to the messages, and return the update of the other keys; raises InputProblem."""
        said = said_now(state["messages"])
        files, without_files, unreadable = await in_thread(take_files, said)
        messages += without_files
        by_id = {message.id: message for message in without_files}
        said = [by_id.get(message.id, message) for message in said]
        if unreadable:
            raise unreadable
        check_settings()
        check_prompt(said)
        sent = await in_thread(sent_now, state, self._keys)
        if not said and not sent and was_edited(state):
            raise InputProblem(**EDITED)
        new = await in_thread(not_seen, state, said)
        attached: dict[str, Any] = {}
        for file in files:
            read = await in_thread(self._accept, file)
            if attached.keys() & read.keys():
                raise several(", ".join(file.name for file in files))
            attached |= read
        update = attached | await self._check({**state, **attached}, Turn(new, sent, attached))
        # Data without a question still starts a turn; the offline rules and real models both need to see one.
        if not any(message.text.strip() for message in said):
            messages.append(HumanMessage(DATA_ONLY))
        return update


def _refused(problem: InputProblem, messages: Sequence[AnyMessage]) -> dict[str, Any]:
    return {
        **NEW_TURN,
        "problem": problem.problem,
        "messages": [*messages, AIMessage(str(problem))],
        "jump_to": "end",
    }


def json_intake(
    known: Sequence[str], parse: Callable[[dict[str, Any]], object], *, nothing: Problem
) -> Intake:
    """The intake of an agent whose input is JSON: sent under keys, attached, pasted, or named.

    Args:
        known: The agent's input keys.
        parse: Reads the state with these keys; raises InputProblem.
        nothing: What is told where none of them was sent; its cure shows an example.
    """

    async def check(state: dict[str, Any], turn: Turn) -> dict[str, Any]:
        told = await in_thread(said_object, turn.said, known)
        now = {**turn.sent, **turn.attached, **told}
        # What was sent is what is meant, even if a name is mentioned, where it needs nothing besides.
        if not await in_thread(_is_whole, now) and (name := turn.named_file(".json")):
            file = File(name, await read_data_file(name, max_bytes=MAX_JSON_BYTES))
            told = {**file.json_object(known), **now}
        if not any((state | told).get(key) for key in known):
            raise InputProblem(**nothing)
        await in_thread(parse, state | told)
        return told

    def _is_whole(now: dict[str, Any]) -> bool:
        try:
            parse(now)
        except InputProblem:
            return False
        return any(now.values())

    return Intake(check, keys=known, accept=lambda file: file.json_object(known))


def intake_node(check: NodeCheck, accepted: str) -> Callable[..., Awaitable[Any]]:
    """The first node of a graph that is written by hand: clears the last turn's results, checks the input.

    Args:
        check: Gets the state; returns an update, or raises InputProblem, which ends the run with an answer.
        accepted: The node that follows.
    """

    async def intake(state: dict[str, Any]) -> Command[str]:
        said = said_now(state.get("messages", []))
        try:
            check_settings()
            check_prompt(said)
            update = await check(state)
        except InputProblem as problem:
            messages = [*cut_overlong(said), AIMessage(str(problem))]
            return Command(goto=END, update={**NEW_TURN, "problem": problem.problem, "messages": messages})
        return Command(goto=accepted, update={**NEW_TURN, **update})

    return intake


def check_prompt(said: Sequence[HumanMessage]) -> None:
    """Refuse more text than a question has; raises InputProblem."""
    size = sum(len(message.text) for message in said)
    if size > MAX_PROMPT_CHARACTERS:
        raise InputProblem(
            "prompt_too_long",
            f"The message has {size:,} characters; {MAX_PROMPT_CHARACTERS:,} is the most.",
            "Ask a shorter question, and attach data, or send it under the agent's input keys.",
        )


def cut_overlong(said: Sequence[HumanMessage]) -> list[HumanMessage]:
    """Those messages that are too long, cut: whole, they would be checkpointed again at every later turn."""
    return [
        HumanMessage(
            f"{message.text[:SHOWN_CHARACTERS]} … (cut, {len(message.text):,} characters)", id=message.id
        )
        for message in said
        if len(message.text) > MAX_PROMPT_CHARACTERS
    ]
