"""Makes a project, and adds agents to one."""

from __future__ import annotations

import json
import keyword
import re
import string
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

from sdk_client.errors import ConfigurationError
from sdk_client.scaffold.files import Write, all_or_none, replace, unwritable
from sdk_client.scaffold.origin import WHEELS, Origin

MANIFEST: Final = "langgraph.json"
FIRST_AGENT: Final = "assistant"
# Which the test of each agent needs; it makes a folder one that agents can be added to.
PROVIDER: Final = Path("tests", "provider.py")
_TEMPLATE: Final = files(__package__) / "template"
_PROJECT_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_AGENT_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
# Names become files, packages and parts of an image's name.
_LONGEST_NAME: Final = 64
# Of an agent's kind, by its file in the template.
_AGENT_FILES: Final = {
    "graph.py": "agents/{agent}/graph.py",
    "offline.py": "agents/{agent}/offline.py",
    "test.py": "tests/test_{agent}.py",
    "example.json": "examples/{agent}.json",
}

# Of compose.yaml, for a base that has no git of its own.
_WITH_GIT: Final = "      args: {BUILD_PACKAGES: git ca-certificates}\n"


class Kind(StrEnum):
    """What an agent is made like."""

    TOOLS = "tools"
    SUPERVISOR = "supervisor"
    APPROVAL = "approval"


class _Text(string.Template):
    # A dollar is a Makefile's and a shell's, a brace is Python's.
    delimiter = "%%"


_DESCRIPTIONS: Final = {
    Kind.TOOLS: "Answers with tools that compute.",
    Kind.SUPERVISOR: "Asks its specialists and puts their answers together.",
    Kind.APPROVAL: "Writes messages; a human decides on each before it is sent.",
}


def make_project(folder: Path, kind: Kind, origin: Origin) -> list[Path]:
    """Write a project with one agent into a new or empty folder.

    Args:
        folder: Its last part is the project's name.
        kind: Of the agent.
        origin: Where the project's packages come from.

    Returns:
        The files, as seen from the folder.

    Raises:
        ConfigurationError: The name will not do, or the folder holds something or cannot be written.
    """
    name = folder.resolve().name
    if not _PROJECT_NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise ConfigurationError(
            f"{name!r} cannot be a project's name: lower-case letters, digits, single hyphens, a letter "
            f"first, {_LONGEST_NAME} characters at most{_hint(name, '-', _PROJECT_NAME)}"
        )
    _check_new_or_empty(folder)
    values = {
        "project": name,
        "agent": FIRST_AGENT,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "sources": origin.tables,
        "question": _question(kind),
        "image_note": _image_note(origin),
        "build_arguments": _WITH_GIT if origin.needs_git else "",
    }
    written = {path: _fill(text, values) for path, text in _texts(_TEMPLATE / "project")}
    if re.search(rf'"{name}["<>=]', written["pyproject.toml"].partition("dependencies")[2]):
        raise ConfigurationError(f"a project cannot be called {name!r}: it needs the package of that name")
    wheels = [Path(WHEELS, wheel.name) for wheel in origin.copied]
    with all_or_none() as write:
        for path, text in written.items():
            write(folder / path, text.encode())
        for wheel in origin.copied:
            write(folder / WHEELS / wheel.name, _read(wheel))
        agent = _add_agent(write, folder, FIRST_AGENT, kind)
    return sorted([*map(Path, written), *wheels, *agent])


def add_agent(folder: Path, name: str, kind: Kind) -> list[Path]:
    """Write an agent into a project: its folder, a line of langgraph.json, an example and a test.

    Args:
        folder: The project's.
        name: The agent's, in langgraph.json and as a package.
        kind: What it is made like.

    Returns:
        The files, as seen from the folder; without langgraph.json, which is changed.

    Raises:
        ConfigurationError: The name will not do or is taken, or the folder is no such project.
    """
    with all_or_none() as write:
        return _add_agent(write, folder, name, kind)


def _add_agent(write: Write, folder: Path, name: str, kind: Kind) -> list[Path]:
    if keyword.iskeyword(name):
        raise ConfigurationError(
            f"{name!r} cannot be an agent's name: it is a word of Python's, and the agent is a package"
        )
    if not _AGENT_NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise ConfigurationError(
            f"{name!r} cannot be an agent's name: lower-case letters, digits and underscores, a letter "
            f"first, {_LONGEST_NAME} characters at most{_hint(name, '_', _AGENT_NAME)}"
        )
    manifest = _read_manifest(folder)
    paths = {file: path.format(agent=name) for file, path in _AGENT_FILES.items()}
    taken = [
        path for path in (f"agents/{name}", f"agents/{name}.py", *paths.values()) if (folder / path).exists()
    ]
    if name in manifest["graphs"] or taken:
        raise ConfigurationError(f"there is an agent {name!r} already: {', '.join(taken) or MANIFEST} has it")
    manifest["graphs"][name] = {"path": f"./{paths['graph.py']}:graph", "description": _DESCRIPTIONS[kind]}
    texts = dict(_texts(_TEMPLATE / "agents" / kind))
    written = {path: _fill(texts[file], {"agent": name}) for file, path in paths.items()}
    for path, text in written.items():
        write(folder / path, text.encode())
    # Last: until then the server serves what it served before.
    replace(folder / MANIFEST, f"{json.dumps(manifest, indent=2, ensure_ascii=False)}\n".encode())
    return sorted(map(Path, written))


def _hint(name: str, joint: str, allowed: re.Pattern[str]) -> str:
    better = re.sub(r"[^a-z0-9]+", joint, name.lower()).strip(joint)[:_LONGEST_NAME].rstrip(joint)
    return f". {better} would do" if allowed.fullmatch(better) and not keyword.iskeyword(better) else ""


def _check_new_or_empty(folder: Path) -> None:
    try:
        if not folder.is_dir():
            if folder.exists():
                raise ConfigurationError(f"{folder} is a file; a project is made in a new folder")
        elif any(folder.iterdir()):
            raise ConfigurationError(f"{folder} is there and not empty; a project is made in a new folder")
    except OSError as error:
        raise unwritable(error, folder) from error


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file() or not (folder / PROVIDER).is_file():
        raise ConfigurationError(
            f"{folder.resolve()} is no project that `holdfast new` has made: it has no {MANIFEST} and "
            f"{PROVIDER}. Go to its folder first"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.setdefault("graphs", {}), dict):
        raise ConfigurationError(f"{path} must hold an object, and its graphs one too")
    return manifest


def _texts(folder: Traversable, below: str = "") -> Iterator[tuple[str, str]]:
    """Every file of a template, by the path that it gets."""
    for entry in folder.iterdir():
        name = entry.name.removesuffix(".tmpl")
        name = f".{name.removeprefix('dot-')}" if name.startswith("dot-") else name
        if entry.is_dir():
            yield from _texts(entry, f"{below}{name}/")
        elif entry.name.endswith(".tmpl"):
            yield f"{below}{name}", entry.read_text(encoding="utf-8")


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _Text(text).substitute(values)


def _question(kind: Kind) -> str:
    example = json.loads((_TEMPLATE / "agents" / kind / "example.json.tmpl").read_text(encoding="utf-8"))
    return str(example["messages"][0]["content"])


def _image_note(origin: Origin) -> str:
    if origin.travels:
        return "The image is built from this folder."
    return (
        "The image cannot be built while `[tool.uv.sources]` names folders of this machine: build wheels of\n"
        "them, put them into this folder, and name those."
    )


def _read(wheel: Path) -> bytes:
    try:
        return wheel.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {wheel}: {error.strerror}") from error
