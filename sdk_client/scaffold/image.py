"""The image of a project: what builds it here, with which command, and what must be there first."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from sdk_client.errors import ConfigurationError

DOCKERFILE: Final = Path("deploy", "Dockerfile")
_PYPROJECT: Final = "pyproject.toml"
_LOCKS: Final = (Path("uv.lock"), Path("deploy", "requirements.lock"))
_ANSWER_SECONDS: Final = 10.0
# For packages from a repository: a slim base has no git of its own.
_GIT: Final = "git ca-certificates"


class Builder(StrEnum):
    """What can build an image."""

    DOCKER = "docker"
    PODMAN = "podman"
    BUILDAH = "buildah"


# Podman and buildah write OCI images unless told otherwise, and these have no HEALTHCHECK.
_COMMANDS: Final = {
    Builder.DOCKER: ("docker", "build"),
    Builder.PODMAN: ("podman", "build", "--format", "docker"),
    Builder.BUILDAH: ("buildah", "build", "--format", "docker", "--layers"),
}


def find_builder() -> Builder:
    """The first one that is here and works.

    Raises:
        ConfigurationError: There is none.
    """
    has_docker = shutil.which(Builder.DOCKER) is not None
    if has_docker and _runs("docker", "info"):
        return Builder.DOCKER
    for builder in (Builder.PODMAN, Builder.BUILDAH):
        if shutil.which(builder):
            return builder
    daemon = "; docker is, but not its daemon" if has_docker else ""
    raise ConfigurationError(f"an image needs docker, podman or buildah to build it: none is here{daemon}")


def build_command(
    folder: Path,
    builder: Builder,
    *,
    tag: str | None = None,
    target: str | None = None,
    arguments: Mapping[str, str] | None = None,
) -> list[str]:
    """The command that builds a project's image; it is to be run in the project's folder.

    Args:
        folder: The project's.
        builder: What builds it.
        tag: The image's name; None for the one that compose.yaml runs.
        target: A stage of the Dockerfile; None for the last one.
        arguments: Of the Dockerfile, instead of those that follow from the project.

    Raises:
        ConfigurationError: The folder is no project, or not one that an image can be built from.
    """
    project, sources = _read(folder)
    _check(folder, sources)
    made: dict[str, str] = {
        "TITLE": str(project["name"]),
        "VERSION": str(project.get("version", "")),
        "REVISION": _revision(folder),
    }
    if any("git" in source for source in sources.values()):
        made["BUILD_PACKAGES"] = _GIT
    made |= arguments or {}
    return [
        *(*_COMMANDS[builder], "--file", str(DOCKERFILE)),
        *(("--target", target) if target else ()),
        *("--tag", tag or f"{project['name']}:local"),
        *(part for name, value in made.items() if value for part in ("--build-arg", f"{name}={value}")),
        ".",
    ]


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    missing = [str(file) for file in (Path(_PYPROJECT), DOCKERFILE) if not (folder / file).is_file()]
    if missing:
        raise ConfigurationError(
            f"{folder.resolve()} is no project that `holdfast new` has made: it has no "
            f"{' and no '.join(missing)}. Go to its folder first"
        )
    try:
        read = tomllib.loads((folder / _PYPROJECT).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{folder / _PYPROJECT} is not valid TOML: {error}") from error
    project = read.get("project", {})
    if not project.get("name"):
        raise ConfigurationError(f"{folder / _PYPROJECT} has no project.name, which the image is called by")
    sources = read.get("tool", {}).get("uv", {}).get("sources", {})
    return project, {name: source for name, source in sources.items() if isinstance(source, dict)}


def _check(folder: Path, sources: Mapping[str, Mapping[str, Any]]) -> None:
    if not any((folder / lock).is_file() for lock in _LOCKS):
        raise ConfigurationError("there is no uv.lock, which the image is built from: `make setup` writes it")
    here = folder.resolve()
    outside = [
        name
        for name, source in sources.items()
        if "path" in source and not (folder / source["path"]).resolve().is_relative_to(here)
    ]
    if outside:
        raise ConfigurationError(
            f"the image cannot have {' and '.join(outside)}: [tool.uv.sources] names folders outside this "
            "one. Build wheels of them, put these into this folder, and name them there"
        )


def _revision(folder: Path) -> str:
    if not shutil.which("git"):
        return ""
    command = ["git", "-C", str(folder), "rev-parse", "--verify", "HEAD"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return told.stdout.strip()


def _runs(*command: str) -> bool:
    try:
        ended = subprocess.run(command, capture_output=True, timeout=_ANSWER_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0
