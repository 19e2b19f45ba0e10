"""What an assistant may set for its agent, so that one deployment serves several assistants of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from langgraph.prebuilt import ToolRuntime
from langgraph.runtime import Runtime
from pydantic import BaseModel, ConfigDict, Field


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


def context_of(runtime: Runtime[Any] | ToolRuntime[Any, Any]) -> Context:
    """The assistant's settings; the defaults where the graph runs without any."""
    given = runtime.context
    if isinstance(given, Mapping):
        return Context.model_validate(given)
    return given if isinstance(given, Context) else Context()
