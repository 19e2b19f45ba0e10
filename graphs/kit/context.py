"""What an assistant may set for its agent, so that one deployment serves several assistants of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from langgraph.config import get_config
from langgraph.prebuilt import ToolRuntime
from langgraph.runtime import Runtime
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .problems import InputProblem


class Context(BaseModel):
    """The runtime context of every agent; each field has a default, so an assistant may set none."""

    model_config = ConfigDict(protected_namespaces=())

    model: Annotated[
        str | None,
        Field(max_length=200, description="An `init_chat_model` name; unset, the server's MODEL."),
    ] = None
    temperature: Annotated[
        float | None,
        Field(ge=0, le=2, description="Unset, the provider's default: some models take no other."),
    ] = None
    prompt: Annotated[
        str | None,
        Field(max_length=20_000, description="Further instructions, after the agent's own."),
    ] = None
    max_model_calls: Annotated[int, Field(ge=1, le=200, description="Of one run.")] = 25
    max_tool_calls: Annotated[int, Field(ge=0, le=500, description="Of one run.")] = 50
    max_tokens: Annotated[int, Field(ge=1, description="Of one run, in and out, sub-agents included.")] = (
        1_000_000
    )
    summarize_past_tokens: Annotated[
        int,
        Field(ge=200, description="A longer conversation is summed up for the model; fit it to its window."),
    ] = 100_000
    summarize_keep_tokens: Annotated[
        int, Field(ge=50, description="Of the end of the conversation, which stays as it was said.")
    ] = 20_000
    redact_pii: Annotated[
        bool | None,
        Field(
            description="Keep e-mail addresses and card numbers from the model; unset, as the agent has it."
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _spelled_right(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and (wrong := _misspelled(given)):
            raise ValueError(wrong)
        return given


def check_settings() -> None:
    """Refuse an assistant's setting whose name is mistyped: it would not hold, and nobody would know.

    The server hands over as context the names it knows alone, and all that an assistant has as configurable,
    beside keys of its own and of front ends.

    Raises:
        InputProblem: A name is nearly that of a setting.
    """
    if wrong := _misspelled(get_config().get("configurable", {})):
        raise InputProblem("unknown_setting", wrong, "Correct the assistant's context.")


def _misspelled(names: Iterable[str]) -> str | None:
    known = list(Context.model_fields)
    for name in names:
        if name not in known and get_close_matches(name.lower(), known, n=1, cutoff=0.85):
            return f"There is no setting '{name}'; there are {', '.join(known)}."
    return None


def context_of(runtime: Runtime[Any] | ToolRuntime[Any, Any]) -> Context:
    """The assistant's settings; the defaults where the graph runs without any."""
    given = runtime.context
    if isinstance(given, Mapping):
        return Context.model_validate(given)
    return given if isinstance(given, Context) else Context()
