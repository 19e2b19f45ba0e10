"""Which graph of langgraph.json a thread belongs to: what its source says, else the rules of `--graph`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.moving.content import NotTakenError, OldThread

HELP = (
    "The graph of threads whose source names none: NAME for all of them, NAME:KEY=PATTERN for those whose "
    "newest checkpoint has such metadata (or thread_id=PATTERN). May be repeated; the first that fits counts."
)


@dataclass(frozen=True)
class Rule:
    """A graph, and for which threads."""

    graph_id: str
    key: str = ""
    pattern: str = "*"

    def fits(self, thread: OldThread) -> bool:
        """Whether it is for this thread."""
        traits = {**thread.traits, "thread_id": thread.thread_id}
        return not self.key or (self.key in traits and fnmatchcase(traits[self.key], self.pattern))


def read_rules(given: Sequence[str], graphs: Sequence[str]) -> list[Rule]:
    """Read what `--graph` says.

    Raises:
        EngineError: It is no rule, or names a graph that langgraph.json does not have.
    """
    rules = []
    for text in given:
        graph_id, colon, condition = text.partition(":")
        key, equals, pattern = condition.partition("=")
        if colon and not (key and equals):
            raise EngineError(f"--graph {text} is not NAME or NAME:KEY=PATTERN.")
        if graph_id not in graphs:
            raise EngineError(
                f"--graph {text}: langgraph.json has no such graph; it has {', '.join(graphs)}."
            )
        rules.append(Rule(graph_id, key, pattern) if colon else Rule(graph_id))
    return rules


def choose(thread: OldThread, rules: Sequence[Rule], graphs: Sequence[str]) -> str:
    """Return the thread's graph.

    Raises:
        NotTakenError: It is not known, or langgraph.json does not have it.
    """
    if thread.graph_id in graphs:
        return str(thread.graph_id)
    for rule in rules:
        if rule.fits(thread):
            return rule.graph_id
    if thread.graph_id:
        raise NotTakenError(f"it is of the graph {thread.graph_id}, which langgraph.json does not have")
    raise NotTakenError("its graph is not known: name it with --graph")
