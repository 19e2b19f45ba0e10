"""`holdfast new`: what it writes, where packages come from, what it refuses before anything is written."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from langgraph_runtime_holdfast.doctor.project import check_environment
from langgraph_runtime_holdfast.local.settings import DEFAULT_PORTS
from langgraph_runtime_holdfast.settings import settings
from sdk_client.cli.main import main
from sdk_client.scaffold import origin
from sdk_client.settings import ClientSettings

REPOSITORY = Path(__file__).resolve().parents[2]
WHEELS = ("holdfast_client-1.2-py3-none-any.whl", "langgraph_runtime_holdfast-1.2-py3-none-any.whl")
CLIENT, ENGINE = origin.CLIENT, origin.ENGINE


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def wheels(folder: Path) -> Path:
    (folder / "built").mkdir()
    for name in WHEELS:
        (folder / "built" / name).write_bytes(b"")
    return folder / "built"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def uv_tables(project: Path) -> dict[str, Any]:
    tables: dict[str, Any] = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["uv"]
    return tables


@pytest.mark.parametrize("kind", ["tools", "supervisor", "approval"])
def test_a_project_is_lean_and_names_what_it_serves(folder: Path, wheels: Path, kind: str) -> None:
    assert main(["new", "my-desk", "--agent", kind, "--from", "built"]) == 0
    project = folder / "my-desk"
    assert len(files(project)) < 20
    assert {"Makefile", "README.md", ".env.example", ".gitignore", "compose.yaml"} <= files(project)
    for name in ("deploy/Dockerfile", "deploy/builder.lock"):
        assert (project / name).read_text() == (REPOSITORY / name).read_text()
    manifest = json.loads((project / "langgraph.json").read_text())
    assert list(manifest["graphs"]) == ["assistant"]
    # The doctor would warn of any other.
    engine = tomllib.loads((REPOSITORY / "engine" / "pyproject.toml").read_text())["project"]
    assert f"langgraph-api=={manifest['api_version']}" in engine["dependencies"]
    left = [name for name in files(project) if b"%%" in (project / name).read_bytes()]
    assert left == []


def test_the_composed_project_has_no_default_secret_and_drains(folder: Path, wheels: Path) -> None:
    assert main(["new", "my-desk", "--from", "built"]) == 0
    text = (folder / "my-desk" / "compose.yaml").read_text()
    documented = set(re.findall(r"^# ([A-Z_]+)=", (folder / "my-desk" / ".env.example").read_text(), re.M))
    assert set(re.findall(r"\$\{([A-Z_]+)", text)) <= documented
    for secret in ("POSTGRES_PASSWORD", "VALKEY_PASSWORD", "HOLDFAST_API_KEY", "LG_WEBHOOK_TOKEN"):
        assert all(use.startswith(f"${{{secret}:?") for use in re.findall(rf"\$\{{{secret}[^}}]*\}}", text))
    services = yaml.safe_load(text)["services"]
    assert all("healthcheck" in service for service in services.values())
    server = services["server"]
    composed = json.loads(server["environment"]["LANGGRAPH_WEBHOOKS"].replace("$$", "$"))
    declared = json.loads((folder / "my-desk" / "langgraph.json").read_text())["webhooks"]
    assert composed["url"].pop("allowed_domains") == ["callbacks"]
    assert set(declared["url"].pop("allowed_domains")) == {"127.0.0.1", "localhost", "callbacks"}
    assert composed == declared
    for service in (server, services["callbacks"]):
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["image"] == "my-desk:local"
    assert server["build"] == {"context": ".", "dockerfile": "deploy/Dockerfile"}
    drain_seconds = int(server["environment"]["BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS"])
    assert int(server["stop_grace_period"].removesuffix("s")) > drain_seconds
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])


def test_what_the_example_documents_reaches_the_composed_services(folder: Path, wheels: Path) -> None:
    assert main(["new", "my-desk", "--from", "built"]) == 0
    example = (folder / "my-desk" / ".env.example").read_text()
    agents, rest = example.split("# ── compose.yaml")
    composed = rest.split("# ── the client")[0]
    documented = [set(re.findall(r"^# ([A-Z_]+)=", part, re.M)) for part in (agents, composed)]
    assert {"MODEL", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "LANGSMITH_API_KEY"} <= documented[0]
    text = (folder / "my-desk" / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    given = {name: set(services[name]["environment"]) for name in ("server", "callbacks")}
    assert documented[0] <= given["server"]
    interpolated = set(re.findall(r"\$\{([A-Z_]+)", text))
    assert documented[1] <= given["server"] | given["callbacks"] | interpolated
    # An empty OPENAI_BASE_URL would be taken for an address: what is unset must stay so.
    assert ":-}" not in text


def test_the_doctor_of_a_project_knows_what_is_read(
    folder: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["new", "my-desk", "--from", "built"]) == 0
    read = {str(field.alias) for field in ClientSettings.model_fields.values()} | {*DEFAULT_PORTS}
    for name in (*sorted(read), "HOLDFAST_LEASE_SECONDS", "HOLDFAST_LEASES"):
        if name.startswith("HOLDFAST_"):
            monkeypatch.setenv(name, "10")
    (finding,) = check_environment(folder / "my-desk")
    settings.cache_clear()  # the next test has another environment
    assert finding.says == "HOLDFAST_LEASES: nothing reads such a variable"


def test_a_project_of_wheels_takes_them_along(folder: Path, wheels: Path) -> None:
    assert main(["new", "my-desk", "--from", str(wheels)]) == 0
    assert uv_tables(folder / "my-desk")["sources"] == {
        CLIENT: {"path": f"wheels/{WHEELS[0]}"},
        ENGINE: {"path": f"wheels/{WHEELS[1]}"},
    }
    assert {f"wheels/{name}" for name in WHEELS} <= files(folder / "my-desk")


# Unset: this repository's own environment has the client from its checkout.
@pytest.mark.parametrize("source", [["--from", str(REPOSITORY)], []], ids=["named", "unset"])
def test_a_project_of_a_checkout(folder: Path, source: list[str]) -> None:
    assert main(["new", "my-desk", *source]) == 0
    assert uv_tables(folder / "my-desk")["sources"] == {
        CLIENT: {"path": str(REPOSITORY), "editable": True},
        ENGINE: {"path": str(REPOSITORY / "engine"), "editable": True},
    }
    assert "image cannot be built" in (folder / "my-desk" / "README.md").read_text()


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ("git+https://example.org/a/b.git", {"git": "https://example.org/a/b.git"}),
        ("git+ssh://git@example.org/a/b@v1/x", {"git": "ssh://git@example.org/a/b", "rev": "v1/x"}),
    ],
)
def test_a_project_of_a_repository(folder: Path, given: str, where: dict[str, str]) -> None:
    assert main(["new", "my-desk", "--from", given]) == 0
    assert uv_tables(folder / "my-desk")["sources"] == {
        CLIENT: where,
        ENGINE: {**where, "subdirectory": "engine"},
    }
    services = yaml.safe_load((folder / "my-desk" / "compose.yaml").read_text())["services"]
    assert services["server"]["build"]["args"] == {"BUILD_PACKAGES": "git ca-certificates"}


def test_a_project_of_an_index_asks_it_for_these_two_alone(folder: Path) -> None:
    assert main(["new", "my-desk", "--from", "https://example.org/simple"]) == 0
    tables = uv_tables(folder / "my-desk")
    assert tables["sources"] == {CLIENT: {"index": "holdfast"}, ENGINE: {"index": "holdfast"}}
    assert tables["index"] == [{"name": "holdfast", "url": "https://example.org/simple", "explicit": True}]


def test_a_command_from_an_index_asks_where(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FromAnIndex:
        def read_text(self, name: str) -> None:
            return None

    monkeypatch.setattr(metadata, "distribution", lambda name: FromAnIndex())
    assert main(["new", "my-desk"]) == 2
    assert files(folder) == set()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["My Desk"], "'My Desk' cannot be a project's name"),
        (["My Desk"], "my-desk would do"),
        (["d" * 300], "64 characters at most"),
        (["built"], "built is there and not empty"),
        ([f"built/{WHEELS[0]}"], "cannot be a project's name"),
        (["langgraph", "--from", "built"], "it needs the package of that name"),
        (["agent"], "say how the agent is to be called"),
        (["my-desk", "other"], "'other' is one word too many"),
        (["my-desk", "--from", "nowhere"], "there is no folder nowhere"),
        (["my-desk", "--from", "."], "has no wheel of holdfast-client"),
        (["my-desk", "--from", "git+nowhere"], "no address of a repository"),
        (["my-desk", "--from", "git+https://example.org/a@"], "no address of a repository"),
        (["my-desk", "--from", "https://"], "no address of an index"),
        (["my-desk", "--agent", "swarm"], "'swarm' is not one of"),
        (["agent", "x", "--from", "built"], "--from is for a new project"),
        (["agent", "x"], "no project that `holdfast new` has made"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    folder: Path, wheels: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    assert main(["new", *given]) == 2
    assert said in capsys.readouterr().err
    assert files(folder) == {f"built/{name}" for name in WHEELS}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("assistant", "there is an agent 'assistant' already"),
        ("2nd", "'2nd' cannot be an agent's name"),
        ("class", "it is a word of Python's"),
        ("Refund-Desk", "refund_desk would do"),
        ("d" * 300, "64 characters at most"),
        ("a/b", "'a/b' cannot be an agent's name"),
    ],
)
def test_an_agent_takes_nobody_s_place(
    folder: Path,
    wheels: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    said: str,
) -> None:
    assert main(["new", "my-desk", "--from", "built"]) == 0
    monkeypatch.chdir(folder / "my-desk")
    before = {file: (folder / "my-desk" / file).read_bytes() for file in files(folder / "my-desk")}
    assert main(["new", "agent", name]) == 2
    assert said in capsys.readouterr().err
    assert {file: (folder / "my-desk" / file).read_bytes() for file in files(folder / "my-desk")} == before


def test_a_file_is_no_folder_for_a_project(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "my-desk").touch()
    assert main(["new", "my-desk"]) == 2
    assert "my-desk is a file" in capsys.readouterr().err


@pytest.mark.parametrize("refused", [".env.example", "provider.py", WHEELS[1], "graph.py", "langgraph.json"])
def test_a_disk_that_fills_leaves_nothing_behind(
    folder: Path,
    wheels: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    refused: str,
) -> None:
    real = Path.open

    def refuse(content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def full(path: Path, *arguments: Any, **options: Any) -> Any:
        file: Any = real(path, *arguments, **options)
        if path.name == refused and "xb" in arguments:
            file.write = refuse
        return file

    for project in ("my-desk", "a/new/my-desk"):
        with monkeypatch.context() as disk:
            disk.setattr(Path, "open", full)
            assert main(["new", project, "--from", "built"]) == 2
        assert f"{refused}: No space left on device" in capsys.readouterr().err
        assert {path.name for path in folder.iterdir()} == {"built"}
        assert main(["new", project, "--from", "built"]) == 0
        shutil.rmtree(folder / Path(project).parts[0])


def test_a_manifest_that_cannot_be_written_stays_as_it_was(
    folder: Path, wheels: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["new", "my-desk", "--from", "built"]) == 0
    monkeypatch.chdir(folder / "my-desk")
    before = {file: Path(file).read_bytes() for file in files(Path())}

    def refuse(*paths: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    assert main(["new", "agent", "outing"]) == 2
    assert "cannot write langgraph.json: Permission denied" in capsys.readouterr().err
    assert {file: Path(file).read_bytes() for file in files(Path())} == before
    assert not Path("agents", "outing").exists()


def test_a_moved_project_sets_itself_up_anew(folder: Path, wheels: Path) -> None:
    assert main(["new", "my-desk", "--from", "built"]) == 0
    uv = folder / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\nmkdir -p .venv && echo once >> .venv/made\n")
    uv.chmod(0o755)

    def make(project: str) -> str:
        environment = {"PATH": f"{uv.parent}:/usr/bin:/bin"}
        subprocess.run(["make", "--silent", "setup"], cwd=folder / project, env=environment, check=True)
        return (folder / project / ".venv" / "made").read_text()

    assert make("my-desk") == make("my-desk") == "once\n"
    (folder / "my-desk" / ".venv" / "of-the-old-place").touch()
    (folder / "my-desk").rename(folder / "a new place")
    assert make("a new place") == make("a new place") == "once\n"
    assert not (folder / "a new place" / ".venv" / "of-the-old-place").exists()


def test_an_agent_leaves_the_rest_of_the_manifest_alone(
    folder: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["new", "my-desk", "--from", "built"]) == 0
    monkeypatch.chdir(folder / "my-desk")
    before = Path("langgraph.json").read_text().splitlines()
    assert main(["new", "agent", "outing", "--agent", "supervisor"]) == 0
    after = Path("langgraph.json").read_text().splitlines()
    assert {line.rstrip(",") for line in before} < {line.rstrip(",") for line in after}
    assert len(after) == len(before) + 4
    added = {
        "agents/outing/graph.py",
        "agents/outing/offline.py",
        "examples/outing.json",
        "tests/test_outing.py",
    }
    assert added <= files(Path())


def test_the_kit_names_itself_only_relatively() -> None:
    """It has another name in the client's wheel."""
    kit = REPOSITORY / "graphs" / "kit"
    absolute = re.compile(r"^\s*(?:from|import) graphs\b", re.M)
    assert [str(path) for path in kit.rglob("*.py") if absolute.search(path.read_text())] == []


def test_a_checkout_has_the_kit_as_it_is_now() -> None:
    """An editable install must not hold a copy of it, which would be of the day of the installation."""
    found = metadata.distribution(CLIENT).files or []
    assert [str(path) for path in found if "holdfast_kit" in path.parts] == []
