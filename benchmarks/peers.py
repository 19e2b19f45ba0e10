"""The peers' environments: their own interpreters and packages, apart from ours and never in our lock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "peers"
NEEDED_PYTHON = (3, 12)  # Aegra's; langhost runs on it too
PYTHON_VARIABLE = "BENCH_PEERS_PYTHON"


class PeerMissingError(Exception):
    """A peer cannot be measured on this machine; says why."""


def peer_python(name: str, folder: Path) -> Path:
    """Find or make the environment of a peer.

    Args:
        name: A file of `peers/`, without its ending.
        folder: Where the environments are kept between runs.

    Returns:
        The path of its interpreter.

    Raises:
        PeerMissingError: There is no interpreter for it, or its packages cannot be had.
    """
    environment = folder / name
    requirements = REQUIREMENTS / f"{name}.txt"
    wanted = requirements.read_text(encoding="utf-8")
    ready = environment / "ready"
    python = environment / "bin" / "python"
    if ready.exists() and ready.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(environment, ignore_errors=True)
    log = folder / f"{name}.log"
    _uv(log, "venv", "--python", str(_find_interpreter()), str(environment))
    _uv(log, "pip", "install", "--python", str(python), "--requirement", str(requirements))
    ready.write_text(wanted, encoding="utf-8")
    return python


def _uv(log: Path, *arguments: str) -> None:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise PeerMissingError("uv is not installed; run `make setup`")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        made = subprocess.run(  # noqa: S603 - a fixed program with our own arguments
            [uv, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            # As in the Makefile: behind a company's proxy its own list of certificates is not enough.
            env={"UV_SYSTEM_CERTS": "true", **os.environ},
            check=False,
        )
    if made.returncode != 0:
        raise PeerMissingError(f"its packages cannot be installed; {Path(*log.parts[-4:])} says why")


def _find_interpreter() -> Path:
    for candidate in _candidates():
        asked = subprocess.run(  # noqa: S603 - an interpreter, asked for its version
            [str(candidate), "-c", "import sys; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0 and tuple(map(int, asked.stdout.split())) >= NEEDED_PYTHON:
            return candidate
    version = ".".join(map(str, NEEDED_PYTHON))
    raise PeerMissingError(f"no Python {version}; set {PYTHON_VARIABLE} to one")


def _candidates() -> Iterator[Path]:
    if given := os.environ.get(PYTHON_VARIABLE):
        yield Path(given)
        return
    yield Path(sys.executable)
    for name in ("python3.12", "python3.13"):
        if found := shutil.which(name):
            yield Path(found)
    # pyenv's shims answer only for the version that is switched on.
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    for pattern in ("3.12.*", "3.13.*"):
        for version in sorted(pyenv.glob(pattern)):
            yield version / "bin" / "python"
