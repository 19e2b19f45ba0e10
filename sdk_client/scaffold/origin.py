"""Where a new project gets the client and the engine from: a checkout, wheels, a git address, or an index.

The answer is always written down in `[tool.uv.sources]`, also for an index: what is looked for by its name
alone could come from anybody who has registered that name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from sdk_client.errors import ConfigurationError

CLIENT: Final = "holdfast-client"
ENGINE: Final = "langgraph-runtime-holdfast"
# The engine's folder in a checkout.
ENGINE_FOLDER: Final = "engine"
# Where a project keeps the wheels that it was made from.
WHEELS: Final = "wheels"
FORMS: Final = "a checkout of Holdfast, a folder with both wheels, git+URL[@REVISION], or the URL of an index"


@dataclass(frozen=True)
class Origin:
    """Where both packages come from."""

    tables: str
    """What pyproject.toml says about it."""
    copied: tuple[Path, ...] = ()
    """The wheels that the project takes along."""
    travels: bool = True
    """Whether it can be reached from another machine, and from the build of an image."""
    needs_git: bool = False


def find_origin(text: str | None) -> Origin:
    """Understand what `--from` says.

    Args:
        text: A folder, `git+URL`, or an index' URL; None for where this command itself comes from.

    Raises:
        ConfigurationError: It is none of these, or a folder without what is needed.
    """
    text = text or _own_origin()
    if text.startswith("git+"):
        return _from_git(text.removeprefix("git+"))
    if text.startswith(("http://", "https://", "file://")):
        return _from_index(text)
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise ConfigurationError(f"--from: there is no folder {text}; give {FORMS}")
    return _from_folder(folder.resolve())


def _from_folder(folder: Path) -> Origin:
    if (folder / "sdk_client").is_dir() and (folder / ENGINE_FOLDER / "pyproject.toml").is_file():
        sources = {
            CLIENT: {"path": str(folder), "editable": True},
            ENGINE: {"path": str(folder / ENGINE_FOLDER), "editable": True},
        }
        return Origin(_sources(sources), travels=False)
    wheels = {name: _wheel(folder, name) for name in (CLIENT, ENGINE)}
    sources = {name: {"path": f"{WHEELS}/{wheel.name}"} for name, wheel in wheels.items()}
    return Origin(_sources(sources), copied=tuple(wheels.values()))


def _wheel(folder: Path, name: str) -> Path:
    found = sorted(folder.glob(f"{name.replace('-', '_')}-*.whl"))
    if not found:
        raise ConfigurationError(f"--from: {folder} is no checkout of Holdfast and has no wheel of {name}")
    if len(found) > 1:
        names = ", ".join(wheel.name for wheel in found)
        raise ConfigurationError(f"--from: {folder} has several wheels of {name}: {names}; leave one")
    return found[0]


def _from_git(address: str) -> Origin:
    parts = urlsplit(address)
    # Only in the path: what is before an @ in front of the host is a user.
    path, at, revision = parts.path.partition("@")
    where: dict[str, Any] = {"git": urlunsplit(parts._replace(path=path))}
    if at:
        where["rev"] = revision
    if not parts.scheme or not path.strip("/") or (at and not revision):
        raise ConfigurationError(f"--from: git+{address} is no address of a repository, like git+https://…")
    sources = {CLIENT: where, ENGINE: {**where, "subdirectory": ENGINE_FOLDER}}
    return Origin(_sources(sources), needs_git=True)


def _from_index(url: str) -> Origin:
    parts = urlsplit(url)
    if not (parts.hostname or (parts.scheme == "file" and parts.path.strip("/"))):
        raise ConfigurationError(f"--from: {url} is no address of an index, like https://…/simple")
    sources = _sources({name: {"index": "holdfast"} for name in (CLIENT, ENGINE)})
    # `explicit`: for these two packages and no other.
    return Origin(
        f'{sources}\n[[tool.uv.index]]\nname = "holdfast"\nurl = {json.dumps(url)}\nexplicit = true\n'
    )


def _sources(sources: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"{name} = {{ {_inline(source)} }}" for name, source in sources.items()]
    return "\n".join(["[tool.uv.sources]", *lines, ""])


def _inline(source: Mapping[str, Any]) -> str:
    # Text and booleans are written alike in JSON and in TOML.
    return ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in source.items())


def _own_origin() -> str:
    """What the installer noted about this installation (PEP 610).

    Raises:
        ConfigurationError: Nothing, as after an installation from an index.
    """
    noted = json.loads(metadata.distribution(CLIENT).read_text("direct_url.json") or "{}")
    url = str(noted.get("url", ""))
    if git := noted.get("vcs_info"):
        return f"git+{url}@{git['commit_id']}"
    if not url.startswith("file://"):
        raise ConfigurationError(f"say with --from where the project gets Holdfast: {FORMS}")
    path = Path(unquote(urlsplit(url).path))
    return str(path.parent if path.suffix == ".whl" else path)
