"""deploy/systemd: units that systemd accepts, with few rights, and killed only after their drain."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from langgraph_runtime_holdfast.probe import port_of
from langgraph_runtime_holdfast.serve import DRAIN_CONNECTIONS_SECONDS
from sdk_client.callbacks.settings import CallbackSettings

PROJECT = Path(__file__).resolve().parents[2]
UNITS = sorted((PROJECT / "deploy" / "systemd").iterdir())
NAMES = [
    "holdfast-api@.service",
    "holdfast-callbacks.service",
    "holdfast-migrate.service",
    "holdfast-queue@.service",
]
WORST_EXPOSURE = 25
"""Of 100, as `systemd-analyze security` counts; a unit without hardening has 96."""
needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not on the PATH: it checks the units"
)


def read(name: str) -> dict[str, str]:
    """The directives of a unit; `Environment` of several lines becomes one."""
    found: dict[str, str] = {}
    for key, value in re.findall(
        r"^([A-Z]\w+)=(.*)$", (PROJECT / "deploy" / "systemd" / name).read_text(), re.M
    ):
        found[key] = f"{found[key]} {value}" if key in found else value
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units, with the commands where they are on this machine."""
    copied = tmp_path_factory.mktemp("units")
    for unit in UNITS:
        text = unit.read_text().replace("/opt/holdfast/bin/", f"{PROJECT}/.venv/bin/")
        (copied / unit.name).write_text(text)
    return copied


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_systemd_accepts_a_unit_and_finds_it_hardened(folder: Path, name: str) -> None:
    unit = str(folder / name)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit.replace("@.", "@2024.")],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert (verified.returncode, name in verified.stderr.replace("@2024", "@")) == (0, False), verified.stderr
    security = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={WORST_EXPOSURE}", unit],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert security.returncode == 0, security.stdout


def test_commands_are_documented_and_their_ends_are_longer_than_their_drains() -> None:
    assert [unit.name for unit in UNITS] == NAMES
    page = (PROJECT / "docs" / "deploy.md").read_text()
    for name in NAMES:
        unit = read(name)
        assert unit["EnvironmentFile"] == "/etc/holdfast/holdfast.env"
        assert name.removesuffix(".service") in page
        command = unit["ExecStart"].removeprefix("/opt/holdfast/bin/")
        plain = re.sub(r"127\.0\.0\.1 --port \S+", "0.0.0.0 --port 8000", command)
        assert plain in page or plain.replace("8000", "2025") in page
        if name != "holdfast-migrate.service":
            # A signal to all its processes at once would end those that it drains by.
            assert (unit["Restart"], unit["KillMode"]) == ("always", "mixed")
    ends = {name: int(read(name)["TimeoutStopSec"]) for name in NAMES}
    queue = re.search(
        r"BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS=(\d+)", read("holdfast-queue@.service")["Environment"]
    )
    assert queue
    assert ends["holdfast-queue@.service"] >= int(queue[1]) + 10
    assert ends["holdfast-api@.service"] >= DRAIN_CONNECTIONS_SECONDS + 10
    handler = CallbackSettings.model_fields["handler_timeout_seconds"].default
    assert ends["holdfast-callbacks.service"] >= handler + 10
    assert all(
        "HOLDFAST_MIGRATE=false" in read(f"holdfast-{role}@.service")["Environment"]
        for role in ("api", "queue")
    )


def test_a_unit_is_bounded_as_its_container_is() -> None:
    composed = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
    for name in NAMES:
        unit, role = read(name), re.sub(r"holdfast-|@?\.service", "", name)
        assert int(unit["TasksMax"]) >= 500
        limits = composed[role].get("deploy", {"resources": {"limits": {"memory": "1g"}}})
        assert unit["MemoryMax"].lower() == limits["resources"]["limits"]["memory"], name


def test_the_commands_of_an_upgrade_name_these_units() -> None:
    page = (PROJECT / "docs" / "upgrading.md").read_text()
    named = set(
        re.findall(r"\b(holdfast-[a-z]+)(?:@(\d+))?", "\n".join(re.findall(r"systemctl [^\n]+", page)))
    )
    assert {name for name, _ in named} == {re.sub(r"@?\.service", "", unit) for unit in NAMES}
    for name, instance in named:
        assert f"{name}{'@' * bool(instance)}.service" in NAMES
        if instance:
            command = read(f"{name}@.service")["ExecStart"].replace("%i", instance).split()
            assert port_of(command) == int(instance)
