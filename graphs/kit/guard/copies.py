"""Guard, copy part: whether an agent still leans on the one that its folder was copied from.

Agents lie side by side, each a folder with a graph file of the same name. What is in another agent's folder
is that agent's: it changes without this one in mind. Its graph itself may be imported, as a sub-agent.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path


def borrowed_imports(graph_file: Path) -> Iterator[str]:
    """Yield each import, anywhere in an agent's folder, of a part of an agent beside it.

    Args:
        graph_file: The file that exports the agent's graph.
    """
    graph_file = graph_file.resolve()
    folder = graph_file.parent
    agents = [each.parent for each in folder.parent.glob(f"*/{graph_file.name}") if each.parent != folder]
    # Without an import path above it, a folder is the whole project, and what lies beside it is none of it.
    roots = [root for root in dict.fromkeys(map(_resolved, sys.path)) if root in folder.parents]
    if not agents or not roots:
        return
    for source in sorted(folder.rglob("*.py")):
        found: dict[tuple[int, Path], None] = {}  # once a line, however many names it imports
        for line, places in _imports(source, roots):
            file = next((file for place in places if (file := _file(place))), None)
            if file and file.parent / graph_file.name != file and any(map(file.is_relative_to, agents)):
                found[line, file] = None
        for line, file in found:
            where, what = source.relative_to(folder.parent), file.relative_to(folder.parent)
            yield f"{where}:{line} imports {what}, a part of another agent"


def _imports(source: Path, roots: list[Path]) -> Iterator[tuple[int, list[Path]]]:
    """Yield (line, where it may lie without its suffix, the likeliest first) for each name imported."""
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return  # if the graph needs it, importing the graph says so
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, [root.joinpath(*alias.name.split(".")) for root in roots]
        elif isinstance(node, ast.ImportFrom):
            bases = [source.parents[node.level - 1]] if 0 < node.level <= len(source.parents) else roots
            places = [base.joinpath(*(node.module or "").split(".")) for base in bases]
            for alias in node.names:
                yield node.lineno, [*(place / alias.name for place in places), *places]


def _resolved(entry: str) -> Path:
    return Path(entry).resolve()


def _file(place: Path) -> Path | None:
    candidates = (place.with_name(place.name + ".py"), place / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)
