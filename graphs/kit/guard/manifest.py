"""Guard, manifest part: reads langgraph.json and imports what it names, the way the server does."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from .factory import describe, missing_secret

FACTORY: Final = (
    "export a factory, which the server calls once it serves and has its secrets: "
    "`def {name}() -> Any: return create_agent(init_chat_model(…), …)`, under the same path"
)


class LoadError(Exception):
    """The manifest, or a graph that it names, cannot be loaded; the message says why, `cure` what to do."""

    def __init__(self, message: str, cure: str = "") -> None:
        """Keep the cure beside the message; an empty one means the general one."""
        super().__init__(message)
        self.cure = cure


def graph_entries(manifest: Path) -> dict[str, object]:
    """Return the entry of each graph of a manifest, by the graph's name.

    Raises:
        LoadError: The file is missing, is no JSON, or has no graphs.
    """
    graphs = _read(manifest).get("graphs")
    if not isinstance(graphs, dict) or not graphs:
        raise LoadError("it has no graphs", 'list at least one under "graphs"')
    return graphs


def _read(manifest: Path) -> dict[str, Any]:
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except OSError as error:
        raise LoadError(f"it cannot be read: {error.strerror}", "name it with --config") from error
    except ValueError as error:
        raise LoadError(f"it is not valid JSON: {error}", "correct it at that place") from error
    if not isinstance(content, dict):
        raise LoadError("it is not a JSON object", 'write {"graphs": {…}}')
    return content


@contextmanager
def import_paths(manifest: Path) -> Iterator[None]:
    """Let imports find what the server's do: the manifest's folder and the local folders it depends on."""
    root = manifest.resolve().parent
    dependencies = _read(manifest).get("dependencies")
    local = [root / str(name) for name in dependencies] if isinstance(dependencies, list) else []
    folders = [str(root), *(str(folder.resolve()) for folder in local if folder.is_dir())]
    before = list(sys.path)
    sys.path[:0] = folders
    try:
        yield
    finally:
        sys.path[:] = before


def import_graph(entry: object, folder: Path) -> object:
    """Import what an entry names, relative to the manifest's folder.

    Args:
        entry: "./folder/graph.py:name" or "package.module:name", or a dictionary with that as its `path`.
        folder: Where langgraph.json lies.

    Raises:
        LoadError: There is no such file, module or name, or importing it raises.
    """
    source = entry.get("path") if isinstance(entry, dict) else entry
    if not isinstance(source, str) or ":" not in source:
        raise LoadError("its entry has no import path", 'write "./graphs/name/graph.py:graph"')
    location, _, name = source.rpartition(":")
    if "/" in location and not (folder / location).is_file():
        raise LoadError(f"there is no file {location}", "correct the path in langgraph.json")
    try:
        module = _execute(folder / location) if "/" in location else importlib.import_module(location)
    except (Exception, SystemExit) as error:
        cure = FACTORY.format(name=name) if missing_secret(error) else ""
        raise LoadError(f"importing {location} raised {describe(error)}", cure) from error
    if not hasattr(module, name):
        raise LoadError(
            f"{location} exports no {name!r}", "export it there, or correct the path in langgraph.json"
        )
    return getattr(module, name)


def graph_file(entry: object, folder: Path) -> Path | None:
    """Return the file that an entry's graph was imported from; None if there is none."""
    source = entry.get("path") if isinstance(entry, dict) else entry
    location = source.rpartition(":")[0] if isinstance(source, str) else ""
    if "/" in location:
        return folder / location if (folder / location).is_file() else None
    file = getattr(sys.modules.get(location), "__file__", None)
    return Path(file) if file else None


def _execute(path: Path) -> ModuleType:
    # Like the server, as a module outside any package: a relative import fails here as it does there.
    name = "guarded_" + str(path.resolve()).replace("/", "__").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations are resolved through it
    spec.loader.exec_module(module)
    return module
