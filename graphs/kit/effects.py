"""Side effects that a re-executed node does not repeat.

A node may run again: a worker crashed, a transient fault was retried, or an `interrupt()` in the node was
resumed (the node starts from its top). `effect_key` names the one thing that all those executions share: the
task of that thread and checkpoint. It stays the same on a resume, when the run id does not.

Give the key to whatever the effect reaches (an `Idempotency-Key` header, a unique column). Where the other
side takes no key, wrap the effect in `once`, which records it in the platform's store.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

from langgraph.runtime import Runtime

EFFECTS: Final = "effects"
_NAMESPACE: Final = uuid.UUID("5b8a5a56-6f0c-5c1f-9a4e-1f5b0a6f1c11")


def effect_key(runtime: Runtime[Any], name: str) -> str:
    """Name one side effect of the running node, the same at each execution of its task.

    Args:
        runtime: The node's runtime.
        name: What the effect is, unique within the node, for example "send_reply".

    Returns:
        A UUID as text.

    Raises:
        RuntimeError: The graph runs without an execution context, so that no key could be stable.
    """
    info = runtime.execution_info
    if info is None:
        raise RuntimeError("effect_key needs a running node: pass the runtime that LangGraph gave the node")
    return str(uuid.uuid5(_NAMESPACE, f"{info.thread_id}/{info.task_id}/{name}"))


async def once(
    runtime: Runtime[Any], name: str, effect: Callable[[str], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    """Do `effect(key)` unless the store says that it was done; return its (recorded) outcome.

    The record is written after the effect: a crash exactly between the two repeats the effect with the same
    key, so an effect whose other side honours the key happens once, any other at least once.

    Args:
        runtime: The node's runtime; its store is the platform's.
        name: What the effect is, unique within the node.
        effect: Does it, given the key; its outcome must be JSON.
    """
    key = effect_key(runtime, name)
    if runtime.store is None:
        # Only outside a server (a unit test, a script) is there no store; the key still protects.
        return await effect(key)
    record = await runtime.store.aget((EFFECTS,), key)
    if record is not None:
        return record.value
    outcome = await effect(key)
    await runtime.store.aput((EFFECTS,), key, outcome, index=False)
    return outcome
