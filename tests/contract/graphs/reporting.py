"""A graph that reports what the server gave it: configuration, context, user, store."""

from typing import Any

from langgraph.config import get_config
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict


class Context(TypedDict, total=False):
    """What a caller may set for a run."""

    tone: str


class State(TypedDict, total=False):
    """`remember` is kept in the store under its own name; the rest is the report."""

    remember: str
    tone: str | None
    colour: str | None
    user: str | None
    header: str | None
    tags: list[str]
    metadata: dict[str, Any]
    remembered: list[str]


async def report(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    config = get_config()
    assert runtime.store is not None
    if name := state.get("remember"):
        await runtime.store.aput(("reporter",), name, {"text": name})
    configurable = config["configurable"]
    return {
        "tone": (runtime.context or {}).get("tone"),
        "colour": configurable.get("colour"),
        "user": configurable.get("langgraph_auth_user_id"),
        "header": configurable.get("x-colour"),
        "tags": config.get("tags", []),
        "metadata": {key: config["metadata"].get(key) for key in ("purpose", "graph_id", "run_attempt")},
        "remembered": sorted(item.key for item in await runtime.store.asearch(("reporter",), limit=100)),
    }


reporter = (
    StateGraph(State, context_schema=Context)
    .add_node("report", report)
    .add_edge(START, "report")
    .add_edge("report", END)
    .compile()
)
