"""The overlay's pgbouncer.ini in a real PgBouncer, with its pod's login, before a Postgres with TLS."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart
from langgraph_runtime_holdfast.local.unprivileged import give_away, unprivileged_prefix
from tests.contract.engines import Services
from tests.contract.pgbouncer import find_pgbouncer
from tests.contract.postgres_tls import certificate, tls_before

SETTINGS = Path(__file__).parents[2] / "deploy/kubernetes/overlays/large/pgbouncer.ini"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that PgBouncer may read and write."""
    for step in (tmp_path, *tmp_path.parents[:2]):
        step.chmod(0o755)
    give_away(tmp_path)
    return tmp_path


@contextlib.contextmanager
def bouncer(services: Services, folder: Path, *, trusts: str) -> Iterator[Bouncer]:
    """It runs before a Postgres with the certificate `postgres`."""
    ours, trusted = certificate(folder, "postgres"), certificate(folder, "other")
    server = conninfo_to_dict(services.postgres_uri)
    with tls_before(str(server["host"]), int(str(server["port"])), ours) as port:
        made = Bouncer(services, folder, port, authority=ours if trusts == "postgres" else trusted)
        running = made.part(is_healthy=lambda: made.answers())
        try:
            running.wait_until_healthy()
            yield made
        finally:
            running.stop()


def test_it_lets_in_who_has_the_password(services: Services, folder: Path) -> None:
    with bouncer(services, folder, trusts="postgres") as one:
        assert one.lets_in("right") == f"('{one.name}',)"
        assert "authentication failed" in one.lets_in("wrong")
        log = (folder / "pgbouncer.log").read_text()
    assert not re.search("unrecognized|WARNING .*config|syntax error", log), log


def test_it_sends_no_password_to_a_postgres_of_another_authority(services: Services, folder: Path) -> None:
    with bouncer(services, folder, trusts="other") as one:
        assert one.name not in one.lets_in("right")
        assert "certificate verify failed" in (folder / "pgbouncer.log").read_text()


class Bouncer:
    """A PgBouncer with the overlay's settings, changed only in what is another one here."""

    def __init__(self, services: Services, folder: Path, postgres: int, *, authority: Path) -> None:
        """Make a role with a database, and the settings for them."""
        self.binary, self.libraries = find_pgbouncer()
        self.folder, self.name = folder, f"bouncer_{uuid.uuid4().hex[:8]}"
        uri = services.make_database(self.name)
        with psycopg.connect(uri, autocommit=True) as owner:
            owner.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'right'; GRANT ALL ON DATABASE {} TO {}").format(
                    *[sql.Identifier(self.name)] * 3
                )
            )
        self.port = choose_ports({"PORT": 0})["PORT"]
        changed = re.sub(
            r"host=\S+ port=\d+ dbname=\S+",
            f"host=localhost port={postgres} dbname={self.name}",
            SETTINGS.read_text(),
        )
        for old, new in (
            ("listen_addr = 0.0.0.0", "listen_addr = 127.0.0.1"),
            ("listen_port = 5432", f"listen_port = {self.port}"),
            ("/tmp/userlist.txt", f"{folder}/userlist.txt"),  # noqa: S108
            ("/etc/postgres-ca/ca.crt", str(authority)),
        ):
            assert old in changed
            changed = changed.replace(old, new)
        for file, text in (("pgbouncer.ini", changed), ("userlist.txt", f'"{self.name}" "right"\n')):
            (folder / file).write_text(text)
            give_away(folder / file)

    def lets_in(self, password: str) -> str:
        """Which database one comes into, or the error."""
        address = f"postgresql://{self.name}:{password}@127.0.0.1:{self.port}/holdfast"
        try:
            with psycopg.connect(address, connect_timeout=5) as connection:
                return str(connection.execute("SELECT current_database()").fetchone())
        except psycopg.Error as error:
            return str(error)

    def answers(self) -> bool:
        """Whether it listens: to whom it does not know it says so."""
        return "Connection refused" not in self.lets_in("wrong")

    def part(self, is_healthy: Callable[[], bool]) -> RunningPart:
        """It runs."""
        return RunningPart(
            Part(
                name="pgbouncer",
                command=[
                    *unprivileged_prefix([self.binary, self.folder]),
                    str(self.binary),
                    str(self.folder / "pgbouncer.ini"),
                ],
                environment={"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": self.libraries},
                folder=self.folder,
                is_healthy=is_healthy,
                log=self.folder / "pgbouncer.log",
            )
        )
