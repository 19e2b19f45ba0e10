"""The two versions of a rehearsal: where their programs are, and how an older one is brought here."""

from __future__ import annotations

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
_DONE = "installed"


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

    @property
    def serve(self) -> list[str]:
        """How a server of it is started."""
        return [*self.command, "serve", *(["--no-migrate"] if self.leaves_migrations else [])]


def this_version() -> Version:
    """The engine that runs these lines; migrated by `holdfast migrate`, as a deployment does it."""
    return Version("new", (sys.executable, "-m", "langgraph_runtime_holdfast"), leaves_migrations=True)


def old_version(what: str) -> Version:
    """An older engine, by what people have of it.

    Args:
        what: A git ref, or a folder of wheels.

    Raises:
        NotToBeHadError: It is neither, or cannot be installed.
    """
    return _from_wheels(Path(what)) if Path(what).is_dir() else _from_git(what)


def is_here(ref: str) -> bool:
    """Whether git has a commit; a shallow clone has few."""
    return _git("cat-file", "-e", f"{ref}^{{commit}}").returncode == 0


def _from_git(ref: str) -> Version:
    if not is_here(ref):
        raise NotToBeHadError(
            f"{ref} is neither a folder of wheels nor a commit of this clone. If the clone is shallow: "
            "git fetch --unshallow"
        )
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
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def _run(*command: str) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise NotToBeHadError(f"{' '.join(command[:4])} … failed: {ended.stderr.strip()[-2000:]}")
