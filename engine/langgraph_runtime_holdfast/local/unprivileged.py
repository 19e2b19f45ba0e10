"""Running Postgres when we are root, which it refuses to be."""

import os
import pwd
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from langgraph_runtime_holdfast.local.errors import LocalStackError

USER = "nobody"


def unprivileged_prefix(paths: Sequence[Path]) -> list[str]:
    """The start of a command line that runs the rest of it as an ordinary user.

    Nothing is needed where we are an ordinary user ourselves. Root becomes `nobody`; where a folder on the
    way is private (a clone in /root, a temporary folder) the command alone may pass, and no folder's
    permissions are changed.

    Args:
        paths: what the command must reach.

    Raises:
        LocalStackError: we are root and there is no way to become somebody else.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if sys.platform != "linux" or setpriv is None:
        raise LocalStackError(
            "Postgres does not run as root, and setpriv (package util-linux) is not here to change the user. "
            "Run this as an ordinary user."
        )
    user = pwd.getpwnam(USER)
    prefix = [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    if not all(_open_to_everyone(path) for path in paths):
        # Without the bit access(2), by which initdb looks for its siblings, would leave the capability aside.
        prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        prefix += ["--securebits=+no_setuid_fixup"]
    # A change of user clears the leash's own request, so it is made again.
    return [*prefix, "--pdeathsig=KILL", "--"]


def give_away(path: Path) -> None:
    """Make that user the owner of a file or folder, if we are root."""
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        os.chown(path, user.pw_uid, user.pw_gid)


def _open_to_everyone(path: Path) -> bool:
    return all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))
