"""A graph whose state is as large as it is asked for."""

from typing import Any

from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    """`megabytes` each of the two; what is there stays if it is not asked for again."""

    megabytes: float | None
    left: str
    right: str


def text(megabytes: float) -> str:
    """Text that compresses as prose does, rather than to nothing."""
    count = int(megabytes * 1_000_000)
    return "".join(f"{number:07x}," for number in range(count // 8))


async def grow(state: State) -> dict[str, Any]:
    megabytes = state.get("megabytes")
    if not megabytes:
        return {"megabytes": None}
    return {"megabytes": None, "left": text(megabytes), "right": text(megabytes)}


grows = StateGraph(State).add_node("grow", grow).add_edge(START, "grow").add_edge("grow", END).compile()
