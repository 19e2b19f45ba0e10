"""`make newest`: would this engine fit the newest langgraph-api?

Fetches the newest release (or the one that is named) into a folder of its own, compares its surface with the
installed release's and with this engine's, and, if it differs from the installed one, runs the contract
suite against it in an environment of its own. The present environment stays as it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from langgraph_runtime_holdfast.surface import find_mismatches, read_surface, server_folder

PACKAGE: Final = "langgraph-api"
PROJECT: Final = Path(__file__).resolve().parents[2]
INSTALL_SECONDS: Final = 600
SUITE_SECONDS: Final = 1800


class UnavailableError(Exception):
    """The release cannot be had, so that nothing can be said about it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what differs, and how the suite ends.

    Returns:
        0 where the engine fits or the release cannot be had, 1 where it does not fit.
    """
    parser = argparse.ArgumentParser(prog="newest", description=__doc__)
    parser.add_argument("--release", help="compare with this one instead of the newest")
    release = parser.parse_args(arguments).release
    installed = metadata.version(PACKAGE)
    with tempfile.TemporaryDirectory() as folder:
        # As root the embedded Postgres in it runs as somebody else, who must be able to pass.
        Path(folder).chmod(0o755)
        try:
            return _compare(installed, release, Path(folder))
        except UnavailableError as error:
            print(f"cannot fetch {PACKAGE}, so nothing was compared: {error}")
            return 0


def _compare(installed: str, release: str | None, folder: Path) -> int:
    wanted = PACKAGE if release is None else f"{PACKAGE}=={release}"
    _uv("pip", "install", "--no-deps", "--upgrade", "--python", sys.executable, "--target", folder, wanted)
    [distribution] = metadata.distributions(name=PACKAGE, path=[str(folder)])
    other = distribution.version
    if other == installed:
        print(f"{PACKAGE} {installed} is the newest")
        return 0
    before, after = read_surface(server_folder()), read_surface(folder / "langgraph_api")
    mismatches = find_mismatches(after)
    print(f"{PACKAGE} {installed} is installed, {other} is compared")
    for sign, uses, others in (("-", before, after), ("+", after, before)):
        known = {str(use) for use in others}
        print("".join(f"{sign} {use}  {use.place}\n" for use in uses if str(use) not in known), end="")
    if mismatches:
        print("\n".join(f"does not fit: {line}" for line in mismatches))
        return 1
    print(f"the surface of {other} fits; the suite follows", flush=True)
    return _run_suite(other, folder / "environment")


def _run_suite(release: str, environment: Path) -> int:
    """Run the contract suite on the holdfast engine over another release."""
    lock = PROJECT / "requirements.lock"
    if not lock.is_file():
        print("the suite is not here (it comes with the checkout), so it was not run")
        return 0
    python = environment / "bin" / "python"
    _uv("venv", "--python", sys.executable, environment)
    _uv("pip", "sync", "--python", python, lock)
    _uv("pip", "install", "--python", python, f"{PACKAGE}=={release}")
    _uv(
        *("pip", "install", "--no-deps", "--no-build-isolation", "--python", python),
        *("-e", PROJECT, "-e", PROJECT / "engine"),
    )
    suite = subprocess.run(  # noqa: S603 - a fixed program with our own arguments
        [python, "-m", "pytest", "--quiet", "tests/contract"],
        cwd=PROJECT,
        env={**os.environ, "CONTRACT_ENGINES": "holdfast"},
        timeout=SUITE_SECONDS,
        check=False,
    )
    print(f"the suite {'passes' if suite.returncode == 0 else 'fails'} on {PACKAGE} {release}")
    return 0 if suite.returncode == 0 else 1


def _uv(*arguments: str | Path) -> None:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise UnavailableError("uv is not installed; run `make setup`")
    # Its own environment, whichever is active here.
    variables: Mapping[str, str] = {name: v for name, v in os.environ.items() if name != "VIRTUAL_ENV"}
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program with our own arguments
            [uv, "--quiet", *arguments],
            env=variables,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"no answer within {INSTALL_SECONDS} s") from error
    if done.returncode != 0:
        raise UnavailableError(" ".join(done.stderr.split()))


if __name__ == "__main__":
    sys.exit(main())
