"""The guard of graphs/: what a graph must not do, checked before the server meets it. See `rules`."""

from .rules import Violation, check_each, check_graph, check_manifest, main

__all__ = ["Violation", "check_each", "check_graph", "check_manifest", "main"]
