"""The configuration of docs/high-availability.md is one that Patroni starts two nodes with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.conftest import RUNS_ALL
from tests.faults.rig import patroni

PAGE = Path(__file__).resolve().parents[2] / "docs" / "high-availability.md"
OF_THE_PLACE = ("bin_dir", "data_dir", "pgpass", "listen", "connect_address", "authentication")


def _on_the_page() -> dict[str, Any]:
    (text,) = re.findall(r"```yaml\n(scope:.*?)```", PAGE.read_text(), re.DOTALL)
    config: dict[str, Any] = yaml.safe_load(text)
    return config


@pytest.mark.skipif(not RUNS_ALL, reason="takes half a minute: FAULTS=all")
@pytest.mark.timeout(300)
async def test_two_nodes_start_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With other addresses, folders and passwords, and without TLS, which the Postgres here lacks."""
    rig = patroni.Node._config

    def config(node: patroni.Node, synchronously: bool) -> dict[str, Any]:
        here, page = rig(node, synchronously), _on_the_page()
        page |= {name: here[name] for name in ("name", "restapi", "etcd3", "watchdog")}
        postgres = page["postgresql"]
        postgres |= {name: here["postgresql"][name] for name in OF_THE_PLACE}
        ours = {name: value for name, value in postgres["parameters"].items() if not name.startswith("ssl")}
        postgres["parameters"] = ours | here["postgresql"]["parameters"]
        return page

    monkeypatch.setattr(patroni.Node, "_config", config)
    cluster = patroni.PatroniCluster(tmp_path / "postgres", synchronous=True)
    try:
        await cluster.start()
        primary = await cluster.until_led()
        assert await primary.ask("SHOW max_connections") == [("200",)]
        assert await primary.ask("SELECT sync_state FROM pg_stat_replication") == [("sync",)]
    finally:
        await cluster.stop()


def test_whoever_asks_for_tls_has_it() -> None:
    """Patroni reaches its own Postgres from the machine itself, without TLS; all others need it."""
    postgres = _on_the_page()["postgresql"]
    assert any(line.split()[:4:3] == ["host", "localhost"] for line in postgres["pg_hba"])
    assert {"ssl", "ssl_cert_file", "ssl_key_file"} <= postgres["parameters"].keys()
