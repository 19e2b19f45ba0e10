"""Agents with a provider's own client, which keeps connections and streams, when their server dies."""

from __future__ import annotations

import asyncio
import functools

from tests.faults.rig.scenario import scenario
from tests.faults.rig.setup import Setup
from tests.faults.rig.stand import Stand

AGENTS = 50
IN_FLIGHT = 10
_ENDED_SECONDS = 120.0
_RUNS = "SELECT count(*), count(DISTINCT thread_id) FROM run WHERE thread_id = ANY(%s::uuid[])"


@scenario(
    "Graph",
    "50 runs of an agent with the OpenAI client as well, kill -9 of one of two servers",
    Setup(servers=2, models=True),
    durability=("async",),
)
async def test_agents_with_a_real_model_client(stand: Stand) -> None:
    submit = functools.partial(
        stand.client.submit, "agent", webhook=stand.receiver.url, durability=stand.outcome.durability
    )
    async with stand.fault():
        agents = await asyncio.gather(*(submit(asked(number)) for number in range(AGENTS)))
        await stand.until(lambda: stand.journal.began("adds") >= IN_FLIGHT, "agents are at work")
        await stand.kill(stand.servers[0])
    results = await asyncio.gather(
        *(stand.client.join(each, deadline_seconds=_ENDED_SECONDS) for each in agents)
    )
    await stand.check()
    said = [result.values["messages"][-1]["content"] for result in results]
    assert said == [f"The tool says: {number} + 1000 = {number + 1000}" for number in range(AGENTS)]
    assert not stand.openai.refused, stand.openai.refused[:3]
    threads = [each.thread_id for each in agents]
    assert await stand.postgres.ask(_RUNS, [threads]) == [(AGENTS, AGENTS)], "an agent's run is doubled"
    ids = {each.run_id for each in agents}
    await stand.until(lambda: ids <= set(stand.receiver.arrived()), "all were called back")
    twice = stand.journal.began("adds") - AGENTS
    stand.outcome.remark = f"all {AGENTS} agents well, {twice} of their tools called twice"


def asked(number: int) -> dict[str, object]:
    """What the fake provider obeys: call the tool, then say what it said."""
    return {"messages": [{"role": "user", "content": f'call add {{"a": {number}, "b": 1000}}'}]}
