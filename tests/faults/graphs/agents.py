"""An agent as its users write it, with a real model client; its tool writes down that it ran."""

import asyncio

from langchain.agents import create_agent
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from steps import note  # type: ignore[import-not-found]  # beside this file, as the server finds it

TOOL_SECONDS = 0.3


@tool
async def add(a: int, b: int, config: RunnableConfig) -> str:
    """Add two numbers."""
    note(config, "adds", "began")
    await asyncio.sleep(TOOL_SECONDS)
    note(config, "adds", "ended")
    return f"{a} + {b} = {a + b}"


agent = create_agent("openai:gpt-4.1-mini", [add])
