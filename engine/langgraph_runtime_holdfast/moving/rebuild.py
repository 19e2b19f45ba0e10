"""Checkpoints, made of what an API shows of them: with the same ids, so that pauses keep theirs.

The API shows the values and which nodes are next, not what the library keeps beside them. That follows from
the graph: a node is next if its trigger is set. What a `Send` has given to a task does not, so a thread that
waits in one cannot be made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import orjson
from langgraph.channels.base import BaseChannel
from langgraph.pregel import Pregel
from langgraph.types import Interrupt

from langgraph_runtime_holdfast.checkpoint import Saver
from langgraph_runtime_holdfast.moving.barriers import barriers
from langgraph_runtime_holdfast.moving.content import NotTakenError

State = Mapping[str, Any]

_START: Final = "__start__"
_PUSH: Final = "__pregel_push"
_NOTHING: Final[Mapping[str, Any]] = {}
_FIRST: Final = 1_000_000_000
"""Above every version that the source can have had, which go down from here: states come newest first."""


class Rebuilder:
    """Makes the checkpoints of one thread, or of a subgraph in it, from the newest to the oldest."""

    def __init__(self, saver: Saver, graph: Pregel[Any, Any, Any, Any], thread_id: str) -> None:
        """Write by this saver."""
        self._saver, self._graph, self._thread_id = saver, graph, thread_id
        self._versions: dict[str, tuple[bytes, str]] = {}
        self._made = 0

    async def add(self, state: State, *, is_newest: bool, waits: Mapping[str, Any] = _NOTHING) -> None:
        """Make the checkpoint of a state; `waits` is what its barriers have seen.

        Raises:
            NotTakenError: It cannot be made.
        """
        checkpoint = state["checkpoint"]
        if not isinstance(state["values"], dict):
            raise NotTakenError("its state is not an object")
        self._made += 1
        values = {**self._values(state, is_newest=is_newest), **waits}
        versions = {name: self._version(name, value) for name, value in values.items()}
        place = {"thread_id": self._thread_id, "checkpoint_ns": checkpoint.get("checkpoint_ns") or ""}
        parent = (state.get("parent_checkpoint") or {}).get("checkpoint_id")
        metadata = {**(state["metadata"] or {})}
        if "thread_id" in metadata:
            metadata["thread_id"] = self._thread_id
        made: Any = {
            "v": 4,
            "id": checkpoint["checkpoint_id"],
            "ts": state["created_at"],
            "channel_values": values,
            "channel_versions": versions,
            "versions_seen": {},
            "updated_channels": None,
        }
        before = {"configurable": {**place, "checkpoint_id": parent} if parent else place}
        await self._saver.aput(before, made, metadata, versions)  # type: ignore[arg-type]
        if is_newest:
            at = {**place, "checkpoint_id": checkpoint["checkpoint_id"]}
            await self._add_tasks(at, state)

    def _values(self, state: State, *, is_newest: bool) -> dict[str, Any]:
        channels = self._graph.channels
        values = {
            name: _live(channel, value)
            for name, value in state["values"].items()
            if isinstance(channel := channels.get(name), BaseChannel)
        }
        for task in state["tasks"]:
            name = task["name"]
            if name == _START:
                if task.get("result") is not None:
                    values[_START] = task["result"]
            elif (task.get("path") or [""])[0] == _PUSH:
                if is_newest:
                    raise NotTakenError(
                        f"it waits in {name}, to which a Send gave something the API does not show"
                    )
            elif name in self._graph.nodes:
                triggers = list(self._graph.nodes[name].triggers)
                own = f"branch:to:{name}"
                values[own if own in triggers else triggers[0]] = None
            elif is_newest:
                raise NotTakenError(f"it waits before {name}, which the graph here does not have")
        return values

    def _version(self, name: str, value: Any) -> str:
        # A value that did not change from one state to the next is kept once.
        told = sha256(
            orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS)
        ).digest()
        known = self._versions.get(name)
        if known is None or known[0] != told:
            self._versions[name] = (told, f"{_FIRST - self._made:032}.{0:016}")
        return self._versions[name][1]

    async def _add_tasks(self, at: dict[str, Any], state: State) -> None:
        for task in state["tasks"]:
            if asked := task.get("interrupts"):
                interrupts = tuple(_interrupt(each) for each in asked)
                await self._saver.aput_writes(
                    {"configurable": at}, [("__interrupt__", interrupts)], task["id"]
                )
            elif task.get("error"):
                await self._saver.aput_writes(
                    {"configurable": at}, [("__error__", task["error"])], task["id"]
                )
            inner = task.get("state")
            if inner and inner.get("checkpoint"):
                graph = dict(self._graph.get_subgraphs()).get(task["name"])
                if isinstance(graph, Pregel):
                    if barriers(graph) and (inner.get("metadata") or {}).get("step", 1) > 0:
                        raise NotTakenError(
                            f"it waits within {task['name']}, where a node waits for several others, and the "
                            "API does not show which of them have ended"
                        )
                    await Rebuilder(self._saver, graph, self._thread_id).add(inner, is_newest=True)


def _interrupt(shown: Mapping[str, Any]) -> Interrupt:
    return Interrupt(value=shown.get("value"), id=shown["id"])


def _live(channel: BaseChannel[Any, Any, Any], value: Any) -> Any:
    """The value as the graph has it while it runs: messages, not what JSON shows of them."""
    from langgraph_api.serde import json_dumpb

    try:
        empty = channel.from_checkpoint(_nothing())
        empty.update([value])
        made = empty.checkpoint()
    except Exception:
        return value
    # A reducer may do something else to the first value that it gets than keep it.
    return made if same(orjson.loads(json_dumpb(made)), value) else value


def _nothing() -> Any:
    from langgraph._internal._typing import MISSING

    return MISSING


def same(here: Any, there: Any) -> bool:
    """Whether two values are the same to a reader: what is empty may be left out."""
    if isinstance(here, dict) and isinstance(there, dict):
        return all(same(here.get(key), there.get(key)) for key in here.keys() | there.keys())
    if isinstance(here, list) and isinstance(there, list):
        return len(here) == len(there) and all(same(a, b) for a, b in zip(here, there, strict=True))
    return bool(here == there or (not here and not there))
