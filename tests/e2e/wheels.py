"""The two packages as others install them: wheels, and environments with nothing else in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
UV = str(Path(sys.executable).with_name("uv"))


def run(command: Sequence[str | Path], folder: Path, *, code: int = 0, **environment: str) -> str:
    """Run a command to its end and return what it said; another exit code than `code` fails the test."""
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**outside(os.environ), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    assert ended.returncode == code, f"{command} ended with {ended.returncode}:\n{ended.stdout}"
    return ended.stdout


def outside(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of somebody who is not in this repository and has its uv on the path."""
    ours = ("HOLDFAST_", "CALLBACKS_", "LG_WEBHOOK_", "MODEL", "MAKE", "MFLAGS", "VIRTUAL_ENV", "PYTEST_")
    kept = {name: value for name, value in environment.items() if not name.startswith(ours)}
    return {**kept, "PATH": f"{Path(UV).parent}{os.pathsep}{environment['PATH']}"}


def build(folder: Path) -> Path:
    """Build both packages; returns the folder with the two wheels."""
    for package in (PROJECT, PROJECT / "engine"):
        # Without isolation, as hatchling is there: nothing is downloaded for a build.
        build = ["build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable]
        run([UV, *build, "--out-dir", folder, package], folder)
    return folder


def locked_versions() -> list[str]:
    """`name==version` of all that this repository is tested with."""
    lock = (PROJECT / "requirements.lock").read_text()
    return re.findall(r"^([a-z0-9._-]+==[^ ;\\\n]+)", lock, re.MULTILINE)


def install_alone(wheel: Path, folder: Path, extra: str = "") -> tuple[Path, set[str]]:
    """Install a wheel into an environment of its own; returns its Python and the names of all it brought."""
    wanted = f"{wheel}[{extra}]" if extra else wheel
    versions = folder / "versions.txt"
    versions.write_text("\n".join(locked_versions()))
    python = folder / "venv" / "bin" / "python"
    run([UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"], folder)
    run([UV, "pip", "install", "--quiet", "--python", python, "--constraint", versions, wanted], folder)
    frozen = run([UV, "pip", "list", "--quiet", "--format=freeze", "--python", python], folder)
    return python, {line.split("==")[0] for line in frozen.splitlines() if "==" in line}
