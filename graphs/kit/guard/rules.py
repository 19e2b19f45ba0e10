"""Loads every graph of langgraph.json and says what would break it on the server.

    python -m graphs.kit.guard [--config langgraph.json]    in a project of one's own: holdfast_kit.guard

Each violation is one line that names the graph, the rule, what is wrong and the cure.

    load           the graph imports, is a graph, and a factory can be called as the server calls it
    persistence    no checkpointer and no store is compiled in, in subgraphs either
    sync-node      every node, and every tool of a ToolNode, is async
    pool-per-call  neither a factory nor an import opens a pool, a client or a saver
    state          every state key can be checkpointed
    schema         the server can tell the schemas of input, output and context, which Studio draws
    interrupt      no node has an effect before its `interrupt`, which the answer would repeat
    router         conditional edges are decided by a function with a name
    copy           an agent imports no part of the agent it was copied from

It needs no network, no database and no environment: a graph that only imports with a secret set fails here,
while one whose factory wants a secret is given a made-up one.

It reads what is declared and what the source says, and runs no node. So it does not see a blocking call in an
async function, a node or graph that is made while a run goes on, a client of a library that it does not know
(`factory.WATCHED`), a value under a key of type Any, or an effect behind what it cannot follow: a method or a
library's function with a harmless name, a subgraph.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from .copies import borrowed_imports
from .factory import FactoryError, OpenedError, build, describe, watch_connections
from .manifest import LoadError, graph_entries, graph_file, import_graph, import_paths
from .nodes import compiled_in, functions, lambda_routers, nodes, sync_parts, walk
from .pauses import effects_before_pause
from .schemas import missing_schemas
from .source import opening_calls
from .state import unserialisable_keys

Rule = Literal[
    "load", "persistence", "sync-node", "pool-per-call", "state", "schema", "interrupt", "router", "copy"
]

CURES: Final[dict[Rule, str]] = {
    "load": "export a compiled StateGraph, or a factory of one, that imports without network or secrets",
    "persistence": "call compile() without checkpointer and store; the server supplies both",
    "sync-node": "make it `async def` and send blocking or CPU-bound work through graphs/kit/offload.py",
    "pool-per-call": "leave persistence to the server, and open other clients once, in the server's lifespan",
    "state": "keep plain data in state; hand objects to nodes through the runtime context",
    "schema": "take TypedDict from typing_extensions, and annotate with types that pydantic can describe",
    "interrupt": "pause first, or in a node of its own, or wrap the effect in `once` of kit/effects.py",
    "router": "write a function that returns a Literal of node names; drawings and traces then name it",
    "copy": "import this agent's own module instead, or move what both need to graphs/kit",
}


@dataclass(frozen=True)
class Violation:
    """One thing that a graph does which the server cannot live with."""

    graph: str
    """The graph's name in langgraph.json."""
    rule: Rule
    detail: str
    """What is wrong, and where."""
    cure: str

    def __str__(self) -> str:
        """One line, as printed."""
        return f"{self.graph}: {self.rule}: {self.detail}. Cure: {self.cure}."


def check_manifest(path: Path) -> list[Violation]:
    """Check every graph of a langgraph.json; a manifest that cannot be read is itself a violation.

    What an import opens shows at the first import only: a module that this process has is not run again.
    """
    return [violation for found in check_each(path).values() for violation in found]


def check_each(path: Path) -> dict[str, list[Violation]]:
    """Check every graph of a langgraph.json, and give the violations by graph."""
    try:
        entries = graph_entries(path)
    except LoadError as error:
        return {path.name: [_load_violation(path.name, error)]}
    with import_paths(path):
        return {name: _check_entry(name, entry, path.parent) for name, entry in entries.items()}


def _check_entry(name: str, entry: object, folder: Path) -> list[Violation]:
    exported: object = None
    failure: LoadError | None = None
    with watch_connections() as opened:
        try:
            exported = import_graph(entry, folder)
        except (LoadError, OpenedError) as error:
            failure = error if isinstance(error, LoadError) else None
    if opened:  # first, since a module may turn the refusal into an error of its own
        return [_violation(name, "pool-per-call", f"importing the graph opens {opened[0]}")]
    file = graph_file(entry, folder)
    found = [_violation(name, "copy", each) for each in (borrowed_imports(file) if file else ())]
    return [*found, *([_load_violation(name, failure)] if failure else check_graph(name, exported))]


def check_graph(name: str, obj: object) -> list[Violation]:
    """Check one exported graph: compiled, a StateGraph, or a factory of either."""
    if isinstance(obj, Pregel | StateGraph):
        return list(_check_compiled(name, obj))
    if callable(obj):
        return list(dict.fromkeys(_check_factory(name, obj)))
    return [_violation(name, "load", f"the exported object is of type {type(obj).__name__}, not a graph")]


def _check_factory(name: str, factory: Callable[..., Any]) -> Iterator[Violation]:
    calls = list(dict.fromkeys(opening_calls(factory)))
    yield from (_violation(name, "pool-per-call", f"the factory calls {call}") for call in calls)
    # Twice, as for reading schemas and as for a run: a factory may decide by it.
    for for_execution in (False, True):
        made, failure = None, ""
        with watch_connections() as opened:
            try:
                made = build(factory, for_execution=for_execution)
            except (FactoryError, OpenedError) as error:
                failure = str(error)
        if opened:
            if not calls:
                yield _violation(name, "pool-per-call", f"the factory opens {opened[0]} on each call")
        elif failure:
            yield _violation(name, "load", failure)
        elif isinstance(made, Pregel | StateGraph):
            yield from _check_compiled(name, made)
        else:
            yield _violation(name, "load", f"the factory returns {type(made).__name__}, not a graph")


def _check_compiled(name: str, graph: Any) -> Iterator[Violation]:
    if isinstance(graph, StateGraph):
        try:
            graph = graph.compile()
        except ValueError as error:
            yield _violation(name, "load", f"the graph does not compile: {describe(error)}")
            return
    told: list[Violation] = []
    for path, each in walk(graph, name):
        where = "" if path == name else f"subgraph {path}: "
        told += [
            _violation(name, rule, where + found) for rule, found in _check_one(each, is_root=each is graph)
        ]
    yield from told
    # What does not serialise has no schema either: that cause is told once.
    if not any(violation.rule == "state" for violation in told):
        yield from (_violation(name, "schema", found) for found in missing_schemas(graph))


def _check_one(graph: Any, *, is_root: bool) -> Iterator[tuple[Rule, str]]:
    yield from (("persistence", found) for found in compiled_in(graph, is_root=is_root))
    for node, runnable in nodes(graph):
        yield from (("sync-node", f"node {node!r}: {found}") for found in sync_parts(runnable))
        for function in functions(runnable):
            yield from (("interrupt", f"node {node!r}: {found}") for found in effects_before_pause(function))
    yield from (("router", found) for found in lambda_routers(graph))
    yield from (("state", found) for found in unserialisable_keys(graph))


def _violation(graph: str, rule: Rule, detail: str) -> Violation:
    return Violation(graph, rule, detail, CURES[rule])


def _load_violation(graph: str, error: LoadError) -> Violation:
    return Violation(graph, "load", str(error), error.cure or CURES["load"])


def main(arguments: list[str] | None = None) -> int:
    """Print one line for each violation, or for each graph if there is none.

    Returns:
        The exit code: 1 if there is a violation, else 0.
    """
    parser = argparse.ArgumentParser(prog=__package__, description="Check the graphs of langgraph.json.")
    parser.add_argument("--config", type=Path, default=Path("langgraph.json"), help="the manifest to read")
    found = check_each(parser.parse_args(arguments).config)
    violations = [violation for each in found.values() for violation in each]
    lines = [str(violation) for violation in violations] or [f"{name}: ok" for name in found]
    print("\n".join(lines))
    return 1 if violations else 0
