"""How a turn begins: the question is bounded, files are taken in, the input is checked.

What is wrong with the input is answered at once, under `problem` and as a message; no model is asked.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from langchain.agents.middleware import hook_config
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import END
from langgraph.runtime import Runtime
from langgraph.types import Command

from .attachments import File, said_object, take_files
from .context import Context
from .datafolder import read_data_file
from .middleware import Middleware
from .offload import in_thread
from .problems import InputProblem, Problem
from .state import ToolAgentState

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

# Only from where a name may begin: tried at each letter, a long word would take the time of its square.
_FILE_NAME: Final = re.compile(r"(?<![\w./-])[\w./-]*\w\.(?:csv|parquet|stl|json)\b", re.IGNORECASE)

Check = Callable[[Any], Awaitable[dict[str, Any]]]


class NewTurn(Middleware):
    """The intake of an agent that takes messages and nothing else; what they hold is for the model to see."""

    @hook_config(can_jump_to=["end"])
    async def abefore_agent(self, state: ToolAgentState, runtime: Runtime[Context]) -> dict[str, Any]:
        """Clear the last turn's results, and end the run at once where nothing, or too much, was said."""
        said = said_now(state["messages"]) if "messages" in state else []
        if not said:
            return _refused(InputProblem(**NOTHING_SAID), [])
        try:
            check_prompt(said)
        except InputProblem as problem:
            return _refused(problem, cut_overlong(said))
        return NEW_TURN


class Intake(Middleware):
    """Checks the input before anything runs."""

    def __init__(self, check: Check, *, accept: Callable[[File], dict[str, Any]]) -> None:
        """Take what the agent knows about its input.

        Args:
            check: Gets the state, with what was attached; returns an update, or raises InputProblem.
            accept: Turns an attached file into input keys, or raises InputProblem.
        """
        super().__init__()
        self._check = check
        self._accept = accept

    @hook_config(can_jump_to=["end"])
    async def abefore_agent(self, state: ToolAgentState, runtime: Runtime[Context]) -> dict[str, Any]:
        """Clear the last turn's results, and end the run at once where the input is of no use."""
        said = said_now(state["messages"]) if "messages" in state else []
        messages: list[AnyMessage] = []
        try:
            files, without_files, unreadable = await in_thread(take_files, said)
            messages += without_files
            by_id = {message.id: message for message in without_files}
            said = [by_id.get(message.id, message) for message in said]
            if unreadable:
                raise unreadable
            check_prompt(said)
            update: dict[str, Any] = {}
            for file in files:
                update |= await in_thread(self._accept, file)
            update |= await self._check({**state, **update})
        except InputProblem as problem:
            return _refused(problem, [*messages, *cut_overlong(said)])
        # Data without a question still starts a turn; the offline rules and real models both need to see one.
        if not any(message.text.strip() for message in said):
            messages.append(HumanMessage(DATA_ONLY))
        return {**NEW_TURN, **update, "messages": messages}


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

    async def check(state: dict[str, Any]) -> dict[str, Any]:
        told = await told_keys(state, known)
        if not any((state | told).get(key) for key in known):
            raise InputProblem(**nothing)
        await in_thread(parse, state | told)
        return told

    return Intake(check, accept=lambda file: file.json_object(known))


def intake_node(check: Check, accepted: str) -> Callable[..., Awaitable[Any]]:
    """The first node of a graph that is written by hand: clears the last turn's results, checks the input.

    Args:
        check: Gets the state; returns an update, or raises InputProblem, which ends the run with an answer.
        accepted: The node that follows.
    """

    async def intake(state: dict[str, Any]) -> Command[str]:
        said = said_now(state.get("messages", []))
        try:
            check_prompt(said)
            update = await check(state)
        except InputProblem as problem:
            messages = [*cut_overlong(said), AIMessage(str(problem))]
            return Command(goto=END, update={**NEW_TURN, "problem": problem.problem, "messages": messages})
        return Command(goto=accepted, update={**NEW_TURN, **update})

    return intake


def said_now(messages: Sequence[AnyMessage]) -> list[HumanMessage]:
    """What the user said since the last answer."""
    said: list[HumanMessage] = []
    for message in reversed(messages):
        if not isinstance(message, HumanMessage):
            break
        said.insert(0, message)
    return said


def named_file(state: dict[str, Any]) -> str | None:
    """The name of a file that the user's message mentions, if it does."""
    for message in said_now(state.get("messages", [])):
        if name := _FILE_NAME.search(message.text):
            return name[0]
    return None


async def told_keys(state: dict[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """The input keys that the user's message holds as JSON, or else a file of the data folder that it names.

    A file is read only where no key was sent: what was sent is what is meant.

    Raises:
        InputProblem: The named file cannot be read.
    """
    if told := said_object(said_now(state.get("messages", [])), known):
        return told
    name = named_file(state)
    if name is None or any(state.get(key) is not None for key in known):
        return {}
    return File(name, await read_data_file(name, max_bytes=MAX_JSON_BYTES)).json_object(known)


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
