"""A graph of as many steps as are asked for, each of which writes so much state anew; or that only waits."""

import asyncio
import base64
import hashlib
import time
from typing import Any

from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

_TEXT = base64.b64encode(hashlib.shake_128(b"state").digest(1_500_000)).decode()
"""Postgres cannot compress it, so that no more is promised than any state keeps."""


class Steps(TypedDict, total=False):
    """`steps`, `kilobytes` and `hold_seconds` come in; `text` is what each step writes."""

    steps: int
    kilobytes: int
    hold_seconds: float
    done: int
    text: str
    began_at: float


async def step(state: Steps) -> dict[str, Any]:
    """Write a text that is another one at each step."""
    began_at = state.get("began_at", time.time())
    await asyncio.sleep(state.get("hold_seconds", 0.0))
    done = state.get("done", 0)
    text = _TEXT[done * 997 :][: state["kilobytes"] * 1000]
    return {"done": done + 1, "text": text, "began_at": began_at}


def following(state: Steps) -> str:
    """Go on until all steps are done."""
    return "step" if state["done"] < state["steps"] else END


graph = (
    StateGraph(Steps)
    .add_node("step", step)
    .add_edge(START, "step")
    .add_conditional_edges("step", following, ["step", END])
    .compile()
)
