"""A graph that handles a secret in every way a graph can."""

from operator import add
from typing import Annotated, Any

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_store, get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    """`does` is "asks", "fails" or "retries"; by default it only tells."""

    secret: str
    does: str
    heard: Annotated[list[str], add]


async def confide(state: State, config: RunnableConfig) -> dict[str, Any]:
    secret, does = state["secret"], state.get("does")
    get_stream_writer()({"told": secret})
    store = get_store()
    await store.aput(("diary",), "page", {"note": secret, "owner": "all"})
    # What the handlers leave readable can be searched.
    found = await store.asearch(("diary",), filter={"owner": "all"})
    if does == "fails":
        raise ValueError(secret)
    if does == "retries" and config["metadata"]["run_attempt"] == 1:
        raise psycopg.OperationalError(secret)
    answer = interrupt({"about": secret}) if does == "asks" else ""
    return {"heard": [secret, answer, *(item.value["note"] for item in found)]}


confiding = (
    StateGraph(State)
    .add_node("confide", confide)
    .add_edge(START, "confide")
    .add_edge("confide", END)
    .compile()
)
