"""What the tests of alerts and dashboard share: the delivered files, and a real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
ALERTS: Final = DEPLOY / "prometheus" / "alerts.yml"
ALERTS_TEST: Final = DEPLOY / "prometheus" / "alerts_test.yml"
BACKUP_ALERTS: Final = DEPLOY / "prometheus" / "backup-alerts.yml"
BACKUP_ALERTS_TEST: Final = DEPLOY / "prometheus" / "backup-alerts_test.yml"
DASHBOARD: Final = DEPLOY / "grafana" / "holdfast.json"
PACKAGE: Final = "the Debian package is missing: apt-get install prometheus"
_START_SECONDS: Final = 30.0
_METRIC: Final = re.compile(r"\b(lg_api_\w+|process_\w+)")


def rules(file: Path = ALERTS) -> list[dict[str, Any]]:
    """The alerts of a file."""
    read: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return [rule for group in read["groups"] for rule in group["rules"]]


def queries() -> dict[str, str]:
    """The dashboard's queries, by panel and letter, as Grafana sends them."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }
    return {
        name: expr.replace("$job", "holdfast").replace("$__rate_interval", "1m")
        for name, expr in found.items()
    }


def metrics_in(expressions: Sequence[str]) -> set[str]:
    """The names of metrics in queries."""
    return {name for expression in expressions for name in _METRIC.findall(expression)}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


class Prometheus:
    """A running one."""

    def __init__(self, url: str) -> None:
        """Know where it is."""
        self._http = httpx.Client(base_url=url, timeout=10)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        answer = self._http.get("/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def alerts(self) -> set[str]:
        """The alerts whose expression holds, whether for long enough or not."""
        found = self._http.get("/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in found}


@contextmanager
def running_prometheus(folder: Path, targets: Sequence[str]) -> Iterator[Prometheus]:
    """Scrape servers every second, with the alerts loaded; yields the Prometheus."""
    folder.mkdir()
    port = choose_ports({"PORT": 0})["PORT"]
    shutil.copy(ALERTS, folder / "alerts.yml")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [{"job_name": "holdfast", "static_configs": [{"targets": list(targets)}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        *("prometheus", f"--config.file={folder / 'prometheus.yml'}"),
        *(f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"),
    ]
    url = f"http://127.0.0.1:{port}"
    part = Part(
        "prometheus",
        [str(shutil.which(command[0])), *command[1:]],
        {"PATH": "/usr/bin:/bin"},
        folder,
        address=url,
        is_healthy=partial(_is_ready, url),
        log=folder / "prometheus.log",
    )
    running = RunningPart(part)
    try:
        running.wait_until_healthy(_START_SECONDS)
        yield Prometheus(url)
    finally:
        running.stop()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
