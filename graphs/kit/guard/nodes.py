"""Guard, node part: walks a graph and its subgraphs, and finds persistence and sync code in them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.runnables import (
    Runnable,
    RunnableAssign,
    RunnableBranch,
    RunnableGenerator,
    RunnableParallel,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase
from langchain_core.runnables.config import run_in_executor
from langchain_core.tools import BaseTool
from langgraph.graph import START
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel

from .source import closed_over, is_own_code, reached

AnyGraph = Pregel[Any, Any, Any, Any]


def walk(root: AnyGraph, name: str) -> Iterator[tuple[str, AnyGraph]]:
    """Yield (path, graph) for the graph and every subgraph, each once; the path reads `graph.node.node`.

    A subgraph is a node that is a compiled graph, or one that a node's function or tool reaches through its
    closure, its globals, its bound object or a container of these.
    """
    seen: set[int] = set()
    waiting = [(name, root)]
    while waiting:
        path, graph = waiting.pop(0)
        if id(graph) in seen:
            continue
        seen.add(id(graph))
        yield path, graph
        for node, runnable in nodes(graph):
            waiting += [(f"{path}.{node}", subgraph) for subgraph in _subgraphs(runnable)]


def nodes(graph: AnyGraph) -> Iterator[tuple[str, Runnable[Any, Any]]]:
    """Yield (name, runnable) for each node that an author added."""
    for name, node in graph.nodes.items():
        if name != START:
            yield name, node.bound


def compiled_in(graph: AnyGraph, *, is_root: bool) -> Iterator[str]:
    """Yield what the graph brings along of a checkpointer and a store.

    A subgraph may say True or False, which means its parent's checkpointer or none; a root has no parent.
    """
    is_flag = isinstance(graph.checkpointer, bool) and not is_root
    if graph.checkpointer is not None and not is_flag:
        what = graph.checkpointer
        yield f"checkpointer={what if isinstance(what, bool) else type(what).__name__} is compiled in"
    if graph.store is not None:
        yield f"store={type(graph.store).__name__} is compiled in"


def lambda_routers(graph: AnyGraph) -> Iterator[str]:
    """Yield the nodes whose conditional edges are decided by a lambda of the project's own."""
    builder = getattr(graph, "builder", None)
    for node, branches in getattr(builder, "branches", {}).items():
        for branch in branches.values():
            function = getattr(branch.path, "func", None) or getattr(branch.path, "afunc", None)
            if is_own_code(function) and getattr(function, "__name__", "") == "<lambda>":
                yield f"what follows {node!r} is decided by a lambda"


def functions(runnable: Any) -> Iterator[Callable[..., Any]]:
    """Yield what an author wrote of a node: its function, or the coroutines of its tools."""
    if isinstance(runnable, Pregel):
        return  # a graph of its own: `walk` comes to it
    if isinstance(runnable, ToolNode):
        for tool in runnable.tools_by_name.values():
            yield from functions(tool)
        return
    for part in _parts(runnable):
        yield from functions(part)
    for name in ("afunc", "coroutine", "func"):
        function = getattr(runnable, name, None)
        while isinstance(function, functools.partial):
            function = function.func
        if callable(function):
            yield function if inspect.isroutine(function) else type(function).__call__
            return


def sync_parts(runnable: Any) -> Iterator[str]:
    """Yield a description of every part of a node that has no native async form.

    Such a part either runs on the event loop and blocks it, or goes to a thread that nothing can cancel.
    Branches' routing functions are no part of a node: they decide and may be sync.
    """
    if isinstance(runnable, Pregel):
        return  # a graph of its own: `walk` comes to it
    if isinstance(runnable, ToolNode):
        yield from _sync_tools(runnable)
        return
    parts = _parts(runnable)
    if parts:
        for part in parts:
            yield from sync_parts(part)
    elif not _is_async(runnable):
        yield f"{_label(runnable)} is sync"
    else:
        yield from _sync_middleware(getattr(runnable, "afunc", None), "awrap_model_call")


def _parts(runnable: Any) -> list[Any]:
    """What a composed runnable is made of; nothing for a single one."""
    if isinstance(runnable, RunnableParallel):
        return list(runnable.steps__.values())
    if isinstance(runnable, RunnableAssign):
        return [runnable.mapper]
    if isinstance(runnable, RunnableWithFallbacks):
        return list(runnable.runnables)
    if isinstance(runnable, RunnableBranch):
        return [*(branch for _, branch in runnable.branches), runnable.default]
    if isinstance(runnable, RunnableBindingBase | RunnableEachBase):
        return [runnable.bound]
    steps = getattr(runnable, "steps", None)  # RunnableSequence, and langgraph's own RunnableSeq
    return steps if isinstance(steps, list) else []


def _is_async(runnable: Any) -> bool:
    if isinstance(runnable, BaseTool):
        return _is_async_tool(runnable)
    # langgraph's RunnableCallable, and RunnableLambda
    if hasattr(runnable, "func") or hasattr(runnable, "afunc"):
        afunc = getattr(runnable, "afunc", None)
        in_thread = isinstance(afunc, functools.partial) and afunc.func is run_in_executor
        return afunc is not None and not in_thread
    if isinstance(runnable, RunnableGenerator):
        return hasattr(runnable, "_atransform")
    return getattr(type(runnable), "ainvoke", None) is not Runnable.ainvoke


def _sync_tools(node: ToolNode) -> Iterator[str]:
    for name, tool in node.tools_by_name.items():
        if not _is_async_tool(tool):
            yield f"tool {name!r} has no coroutine"
    # Without an async wrapper, ToolNode calls the sync one on the event loop.
    if getattr(node, "_wrap_tool_call", None) and not getattr(node, "_awrap_tool_call", None):
        yield "wrap_tool_call has no async form (awrap_tool_call)"
    yield from _sync_middleware(getattr(node, "_awrap_tool_call", None), "awrap_tool_call")


def _sync_middleware(function: Any, hook: str) -> Iterator[str]:
    """Name the middleware of `create_agent` that has a hook in its sync form alone: awaited, it raises."""
    waiting, seen = [function], set[int]()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        owner = getattr(thing, "__self__", None)
        if isinstance(owner, AgentMiddleware):
            if thing.__func__ is getattr(AgentMiddleware, hook):
                yield f"middleware {owner.name!r} has no {hook}"
        elif inspect.isfunction(thing) and thing.__module__.startswith(("langchain.agents", "langgraph")):
            waiting += closed_over(thing).values()
        elif isinstance(thing, list | tuple):
            waiting += thing


def _is_async_tool(tool: BaseTool) -> bool:
    if getattr(tool, "coroutine", None) is not None:
        return True
    # Tool and StructuredTool define `_arun` too, which without a coroutine runs the function in a thread.
    return not type(tool)._arun.__module__.startswith("langchain_core.tools.")


def _subgraphs(runnable: Any) -> Iterator[AnyGraph]:
    waiting: list[Any] = [runnable]
    seen: dict[int, Any] = {}  # with the things themselves: an id may come again once its thing is gone
    while waiting:
        thing = waiting.pop(0)
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, Pregel):
            yield thing
        elif isinstance(thing, ToolNode):
            waiting += thing.tools_by_name.values()
        elif isinstance(thing, dict):
            waiting += [value for value in thing.values() if _leads_to_graphs(value)]
        elif isinstance(thing, list | tuple | set | frozenset):
            waiting += [value for value in thing if _leads_to_graphs(value)]
        elif isinstance(thing, Runnable):
            waiting += _parts(thing)
            waiting += [getattr(thing, name, None) for name in ("func", "afunc", "coroutine")]
        elif callable(thing):
            waiting += [value for value in reached(thing) if _leads_to_graphs(value)]


_FOLLOWED = (Runnable, dict, list, tuple, set, frozenset, functools.partial)


def _leads_to_graphs(value: Any) -> bool:
    # Installed functions are not followed: they lead everywhere, and no graph of ours is behind them.
    return isinstance(value, _FOLLOWED) or inspect.ismethod(value) or is_own_code(value)


def _label(runnable: Any) -> str:
    function = getattr(runnable, "func", None) or getattr(runnable, "afunc", None) or runnable
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)
