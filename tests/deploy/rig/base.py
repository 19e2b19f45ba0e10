"""A base image like Docker's `python:…-slim`, made of nothing but a Debian mirror."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.deploy.rig.machine import Machine, run

BASE: Final = "localhost/python:slim"
SUITE: Final = "trixie"
MIRROR: Final = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
# As Debian's own images for containers leave out.
NOT_INSTALLED: Final = ("doc", "man", "locale", "info")


def make_base(machine: Machine) -> str:
    """Make the base, unless an earlier test has; returns its name.

    It trusts whom this machine trusts, so that a build finds the package index as this machine does.
    """
    if machine.has_image(BASE):
        return BASE
    archive = machine.folder / "base.tar"
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in NOT_INSTALLED]
    included = "--include=python3,python3-venv,ca-certificates"
    run(["mmdebstrap", "--variant=minbase", *left_out, included, SUITE, str(archive), MIRROR], seconds=900)
    container = machine.buildah("from", "scratch").strip()
    machine.buildah("add", container, archive, "/")
    if certificates := os.environ.get("SSL_CERT_FILE"):
        machine.buildah("add", container, Path(certificates), "/etc/ssl/certs/ca-certificates.crt")
    machine.buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", container)
    machine.buildah("commit", "--rm", container, BASE)
    archive.unlink()
    return BASE
