"""What alerts and dashboard ask for is on the page of a real server, and the rules' own tests pass."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import httpx
import pytest

from tests.contract.api import Sdk, until
from tests.deploy.eyes import (
    ALERTS,
    ALERTS_TEST,
    BACKUP_ALERTS,
    BACKUP_ALERTS_TEST,
    PACKAGE,
    metrics_in,
    promtool,
    queries,
    rules,
)

PAGES = Path(__file__).resolve().parents[2] / "docs" / "runbooks"


@pytest.mark.parametrize("engine", ["holdfast"], indirect=True, scope="session")
async def test_every_metric_that_is_asked_for_is_there(sdk: Sdk, http: httpx.AsyncClient) -> None:
    asked = metrics_in([*queries().values(), *(rule["expr"] for rule in rules())])
    assert len(asked) > 25
    await sdk.runs.wait(None, "echo", input={"text": "a"})

    async def page_once_sampled() -> str | None:
        page = (await http.get("/metrics")).text
        wanted = ("num_pending_runs", "workers_max", "runs_ended_total{")
        return page if all(f"lg_api_{name}" in page for name in wanted) else None

    page = await until(page_once_sampled, "the gauges are sampled, and the run is counted")
    missing = asked - set(re.findall(r"^(\w+)", page, re.MULTILINE))
    assert not missing, sorted(missing)
    labels = set(re.findall(r'[{,](\w+)="', page))
    own = {"project_id", "revision_id", "service_instance_id"}
    assert not {name for name in labels if name.endswith("_id")} - own, labels
    assert 'lg_api_runs_ended_total{graph="echo",status="success"}' in page


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    linked = {
        Path(rule["annotations"]["runbook_url"]).name: rule["alert"]
        for rule in [*rules(), *rules(BACKUP_ALERTS)]
    }
    assert set(linked) == {path.name for path in PAGES.glob("*.md")} - {"README.md"}
    for name, alert in linked.items():
        page = (PAGES / name).read_text(encoding="utf-8")
        assert page.startswith(f"# {alert}\n"), name
        for heading in ("## What it means", "## Look here", "## Do this"):
            assert heading in page, f"{name}: {heading}"
        if (index := (PAGES / "README.md")).exists():
            assert f"]({name})" in index.read_text(encoding="utf-8")


def test_a_page_names_variables_that_somebody_reads() -> None:
    example = (PAGES.parents[1] / ".env.example").read_text(encoding="utf-8")
    spec = importlib.util.find_spec("langgraph_api")
    assert spec is not None
    assert spec.origin is not None
    stock = "".join(path.read_text("utf-8") for path in (Path(spec.origin).parent / "config").glob("*.py"))
    known = set(re.findall(r"^# ([A-Z][A-Z0-9_]+)=", example, re.M)) | set(
        re.findall(r"[A-Z][A-Z0-9_]+", stock)
    )
    for path in PAGES.glob("*.md"):
        named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", path.read_text(encoding="utf-8")))
        assert not named - known, path.name


@pytest.mark.skipif(shutil.which("promtool") is None, reason=PACKAGE)
def test_the_rules_fire_and_keep_silent_as_their_tests_say() -> None:
    for file, test in ((ALERTS, ALERTS_TEST), (BACKUP_ALERTS, BACKUP_ALERTS_TEST)):
        done = promtool("test", "rules", test)
        assert done.returncode == 0, done.stdout + done.stderr
        tested = test.read_text(encoding="utf-8")
        for rule in rules(file):
            assert f"- name: {rule['alert']}\n" in tested, f"{rule['alert']} has no test"
