"""What `kubectl kustomize` makes of deploy/kubernetes."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
MANIFESTS = PROJECT / "deploy" / "kubernetes"
OVERLAYS = ("small", "large", "ha")
SERVERS = ("api", "queue")
OURS = (*SERVERS, "callbacks", "migrate")
Document = dict[str, Any]

needs_kubectl = pytest.mark.skipif(
    not shutil.which("kubectl"), reason="kubectl is not on the PATH: it renders the manifests"
)


@functools.cache
def render_folder(folder: Path) -> tuple[Document, ...]:
    """What a folder with a kustomization makes."""
    told = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=150)
    assert told.returncode == 0, told.stderr
    assert "deprecated" not in told.stderr, told.stderr
    return tuple(yaml.safe_load_all(told.stdout))


def rendered(overlay: str) -> tuple[Document, ...]:
    """What an overlay makes."""
    return render_folder(MANIFESTS / "overlays" / overlay)


def find(overlay: str, kind: str, name: str) -> Document:
    """One of these."""
    return next(
        each for each in rendered(overlay) if each["kind"] == kind and each["metadata"]["name"] == name
    )


def pods(overlay: str) -> Iterator[tuple[str, Document]]:
    """Each pod that the overlay makes, by the name of what makes it."""
    for each in rendered(overlay):
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def pod(overlay: str, name: str) -> Document:
    """The pod that something makes."""
    return dict(pods(overlay))[name]


def settings_of(overlay: str) -> dict[str, str]:
    """The variables that all parts are told."""
    (found,) = [
        each["data"]
        for each in rendered(overlay)
        if each["kind"] == "ConfigMap" and each["metadata"]["name"].startswith("holdfast-")
    ]
    return {name: str(value) for name, value in found.items()}
