"""The one error of the local stack: something a person can put right."""

from langgraph_runtime_holdfast.errors import EngineError


class LocalStackError(EngineError):
    """The stack cannot start or go on; the message names the cause and the cure."""
