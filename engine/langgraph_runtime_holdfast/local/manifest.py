"""langgraph.json: read and checked before anything is started."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from langgraph_runtime_holdfast.local.errors import LocalStackError


def read_manifest(path: Path) -> dict[str, Any]:
    """Read langgraph.json and check that the files it names exist.

    Raises:
        LocalStackError: it is missing, not JSON, has no graphs, or names a file that does not exist.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LocalStackError(
            f"{path} does not exist. Run this in the folder of langgraph.json, or name it with --config."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise LocalStackError(f"cannot read {path}: {error}") from error
    except json.JSONDecodeError as error:
        raise LocalStackError(
            f"{path} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    if not isinstance(manifest, dict):
        raise LocalStackError(f"{path} must hold a JSON object, not {type(manifest).__name__}.")
    graphs = manifest.get("graphs")
    if not isinstance(graphs, dict) or not graphs:
        raise LocalStackError(
            f'{path} has no graphs. Name at least one: {{"graphs": {{"name": "./file.py:graph"}}}}.'
        )
    for place, source in sources(manifest):
        if fault := source_fault(path.parent, place, source):
            raise LocalStackError(f"{path}: {fault}")
    return manifest


def sources(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every place of the manifest that names code, with what it says."""
    for name, graph in manifest["graphs"].items():
        yield f"graphs.{name}", graph.get("path") if isinstance(graph, dict) else graph
    for section, key in (("auth", "path"), ("encryption", "path"), ("http", "app")):
        value = manifest.get(section)
        if isinstance(value, dict) and key in value:
            yield f"{section}.{key}", value[key]


def source_fault(folder: Path, place: str, source: Any) -> str | None:
    """What is wrong with a place's code, looked for from the manifest's folder; None if nothing is."""
    file, colon, variable = source.rpartition(":") if isinstance(source, str) else ("", "", "")
    if not (file and colon and variable):
        return f'{place} must be "./file.py:variable" or "a.module:variable", not {source!r}.'
    # Without a slash it is a module's name, which the server imports and reports on.
    if "/" in file and not (folder / file).is_file():
        return f"{place} names {file}, which does not exist."
    return None
