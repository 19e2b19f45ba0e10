"""The overlay's pgbouncer.ini in a real PgBouncer, with the login that its pod writes."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from langgraph_runtime_holdfast.local.ports import choose_ports
from langgraph_runtime_holdfast.local.processes import Part, RunningPart
from langgraph_runtime_holdfast.local.unprivileged import give_away, unprivileged_prefix
from tests.contract.engines import Services
from tests.contract.pgbouncer import find_pgbouncer

SETTINGS = Path(__file__).parents[2] / "deploy/kubernetes/overlays/large/pgbouncer.ini"


def test_it_lets_in_who_has_the_password(services: Services, tmp_path: Path) -> None:
    binary, libraries = find_pgbouncer()
    name = f"bouncer_{uuid.uuid4().hex[:8]}"
    uri = services.make_database(name)
    with psycopg.connect(uri, autocommit=True) as owner:
        owner.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'right'; GRANT ALL ON DATABASE {} TO {}").format(
                sql.Identifier(name), sql.Identifier(name), sql.Identifier(name)
            )
        )
    server, port = conninfo_to_dict(uri), choose_ports({"PORT": 0})["PORT"]
    # What is another one here: the server, which has no TLS, the port, the folder of the login, the role.
    changed = re.sub(
        r"host=\S+ port=\d+ dbname=\S+",
        f"host={server['host']} port={server['port']} dbname={name}",
        SETTINGS.read_text(),
    )
    for old, new in (
        ("listen_addr = 0.0.0.0", "listen_addr = 127.0.0.1"),
        ("listen_port = 5432", f"listen_port = {port}"),
        ("/tmp/userlist.txt", f"{tmp_path}/userlist.txt"),  # noqa: S108
        ("server_tls_sslmode = require", "server_tls_sslmode = prefer"),
    ):
        assert old in changed
        changed = changed.replace(old, new)
    for file, text in (("pgbouncer.ini", changed), ("userlist.txt", f'"{name}" "right"\n')):
        (tmp_path / file).write_text(text)
        give_away(tmp_path / file)

    def lets_in(password: str) -> str:
        address = f"postgresql://{name}:{password}@127.0.0.1:{port}/holdfast"
        try:
            with psycopg.connect(address, connect_timeout=5) as connection:
                return str(connection.execute("SELECT current_database()").fetchone())
        except psycopg.OperationalError as error:
            return str(error)

    running = RunningPart(
        Part(
            name="pgbouncer",
            command=[
                *unprivileged_prefix([binary, tmp_path]),
                str(binary),
                str(tmp_path / "pgbouncer.ini"),
            ],
            environment={"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": libraries},
            folder=tmp_path,
            is_healthy=lambda: name in lets_in("right"),
            log=tmp_path / "pgbouncer.log",
        )
    )
    try:
        running.wait_until_healthy()
        assert lets_in("right") == f"('{name}',)"
        assert "authentication failed" in lets_in("wrong")
    finally:
        running.stop()
    log = (tmp_path / "pgbouncer.log").read_text()
    assert not re.search("unrecognized|WARNING .*config|syntax error", log), log
