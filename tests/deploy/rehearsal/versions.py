"""The two versions of a rehearsal: where their programs are, and how an older one is brought here."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / ".holdfast" / "rehearsal"
"""Where old versions are kept; git does not see it."""
CONTAINERS = "CONTAINER_RUN"
"""How containers are run here, if not by `podman run` or `docker run`; for options that a machine needs."""
_DONE = "installed"
_GIVEN = (
    *("DATABASE_URI", "REDIS_URI", "CRON_SCHEDULER_SLEEP_TIME"),
    *("LANGSMITH_TRACING", "LANGGRAPH_NO_VERSION_CHECK"),
)


class NotToBeHadError(Exception):
    """The old version cannot be brought here; the message says what to do."""


@dataclass(frozen=True)
class Version:
    """A version of the engine that can be started."""

    name: str
    command: tuple[str, ...]
    """The `holdfast` command's engine part, before `serve` or `migrate`."""
    leaves_migrations: bool = False
    """Whether its servers are started with --no-migrate."""

    is_image: bool = False
    """Whether each command runs in a container of its own, which is called as the place in it says."""

    def run(self, name: str, *arguments: str) -> list[str]:
        """A command of it.

        Args:
            name: Of the container, if there is one.
            arguments: After `holdfast`.
        """
        return [part.format(name=name) for part in self.command] + list(arguments)

    def serve(self, name: str) -> list[str]:
        """How a server of it is started; options follow."""
        return self.run(name, "serve", *(["--no-migrate"] if self.leaves_migrations else []))

    def remove(self, name: str) -> None:
        """End its container at once, if it has one: the program that started it does not take it along."""
        if self.is_image:
            _try(_program_for_containers(), "rm", "--force", name)


def this_version() -> Version:
    """The engine that runs these lines; migrated by `holdfast migrate`, as a deployment does it."""
    return Version("new", (sys.executable, "-m", "langgraph_runtime_holdfast"), leaves_migrations=True)


def old_version(what: str) -> Version:
    """An older engine, by what people have of it.

    Args:
        what: A git ref, a folder of wheels, or an image.

    Raises:
        NotToBeHadError: It is none of them, or cannot be installed.
    """
    if Path(what).is_dir():
        return _from_wheels(Path(what))
    return _from_git(what) if is_here(what) else _from_image(what)


def is_here(ref: str) -> bool:
    """Whether git has a commit; a shallow clone has few."""
    return _git("cat-file", "-e", f"{ref}^{{commit}}").returncode == 0


def _from_git(ref: str) -> Version:
    commit = _git("rev-parse", f"{ref}^{{commit}}").stdout.strip()
    place = CACHE / commit[:12]
    if not (place / _DONE).exists():
        shutil.rmtree(place, ignore_errors=True)
        source = place / "source"
        source.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "source.tar"
            _run("git", "-C", str(ROOT), "archive", "--format=tar", f"--output={archive}", commit)
            with tarfile.open(archive) as files:
                files.extractall(source, filter="data")
        _make_venv(place)
        _pip(place, "sync", "--require-hashes", str(source / "requirements.lock"))
        _pip(place, "install", "--no-deps", "--no-build-isolation", str(source / "engine"))
        (place / _DONE).touch()
    return _installed(place, commit[:7])


def _from_image(image: str) -> Version:
    program = _program_for_containers()
    if not program or _try(program, "image", "inspect", image).returncode:
        raise NotToBeHadError(
            f"{image} is neither a folder of wheels, nor a commit of this clone (if the clone is shallow: "
            "git fetch --unshallow), nor an image that podman or docker has here"
        )
    run = shlex.split(os.environ.get(CONTAINERS, f"{program} run"))
    given = [argument for name in _GIVEN for argument in ("--env", name)]
    graphs = f"{ROOT / 'tests' / 'deploy'}:{ROOT / 'tests' / 'deploy'}:ro"
    # Not the image's own: they differ in what they start with.
    where = ["--network=host", "--entrypoint=python", f"--volume={graphs}"]
    options = ["--rm", "--name={name}", *where, *given]
    command = (*run, *options, image, "-m", "langgraph_runtime_holdfast")
    return Version(f"old ({image})", command, is_image=True)


def _program_for_containers() -> str:
    return next((name for name in ("podman", "docker") if shutil.which(name)), "")


def _from_wheels(folder: Path) -> Version:
    place = CACHE / f"wheels-{folder.resolve().name}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    _make_venv(place)
    wheels = [str(path) for path in folder.glob("langgraph_runtime_holdfast-*.whl")]
    if not wheels:
        raise NotToBeHadError(f"{folder} has no wheel of langgraph-runtime-holdfast")
    # What it needs beside itself: at the versions of the lock in the folder, if there is one.
    locks = [argument for path in folder.glob("*.lock") for argument in ("--constraint", str(path))]
    _pip(place, "install", "--find-links", str(folder), *locks, *wheels)
    return _installed(place, wheels[0].rsplit("/", 1)[-1].split("-")[1])


def _installed(place: Path, name: str) -> Version:
    return Version(
        f"old ({name})", (str(place / "venv" / "bin" / "python"), "-m", "langgraph_runtime_holdfast")
    )


def _make_venv(place: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    _run(_uv(), "venv", "--quiet", "--python", version, str(place / "venv"))


def _pip(place: Path, *arguments: str) -> None:
    first, *rest = arguments
    _run(_uv(), "pip", first, "--quiet", "--python", str(place / "venv" / "bin" / "python"), *rest)


def _uv() -> str:
    for found in (Path(sys.executable).with_name("uv"), ROOT / ".uv" / "bin" / "uv"):
        if found.exists():
            return str(found)
    return "uv"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _try("git", "-C", str(ROOT), *arguments)


def _try(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _run(*command: str) -> None:
    ended = _try(*command)
    if ended.returncode:
        raise NotToBeHadError(f"{' '.join(command[:4])} … failed: {ended.stderr.strip()[-2000:]}")
