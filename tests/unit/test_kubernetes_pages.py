"""The overlay of one's own, as docs/deploy.md shows it, renders on each size with what it names."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.unit.kubernetes_render import MANIFESTS, OURS, OVERLAYS, PROJECT, needs_kubectl, render_folder

pytestmark = needs_kubectl


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_overlay_of_the_page_renders(overlay: str, tmp_path: Path) -> None:
    found = re.search(
        r"^```yaml\n(apiVersion: kustomize.*?)^```", (PROJECT / "docs/deploy.md").read_text(), re.M | re.S
    )
    assert found
    shutil.copytree(MANIFESTS, tmp_path / "kubernetes")
    mine = tmp_path / "kubernetes" / "overlays" / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(found[1].replace("[../small]", f"[../{overlay}]"))
    made = {(each["kind"], each["metadata"]["name"].split("-")[0]): each for each in render_folder(mine)}
    for name in OURS:
        kind = "Job" if name == "migrate" else "Deployment"
        assert made[kind, name]["spec"]["template"]["spec"]["containers"][0]["image"] == "ghcr.io/acme/desk:7"
    assert made["ConfigMap", "holdfast"]["data"]["MODEL"] == "openai:gpt-5"
    assert made["HTTPRoute", "api"]["spec"]["hostnames"] == ["agents.acme.org"]
