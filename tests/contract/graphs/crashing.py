"""A graph that takes its whole server with it."""

import os
import signal
from typing import Any

from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    """Nothing of it is left."""

    text: str


async def kill(state: State) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


poison = StateGraph(State).add_node("kill", kill).add_edge(START, "kill").add_edge("kill", END).compile()
