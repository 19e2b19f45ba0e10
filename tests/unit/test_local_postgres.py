"""The embedded Postgres: a folder that keeps its data, for one owner at a time."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from langgraph_runtime_holdfast.local.errors import LocalStackError
from langgraph_runtime_holdfast.local.postgres import EmbeddedPostgres, embedded_postgres


def test_data_stays_and_a_foreign_process_in_the_pid_file_is_no_obstacle(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path) as uri, psycopg.connect(uri) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE kept AS SELECT '[1,2]'::vector AS value")
        connection.commit()
        with pytest.raises(LocalStackError, match="is in use by process"), embedded_postgres(tmp_path):
            pass
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(uri.replace("holdfast:", "holdfast:not-", 1))

    # As after a reboot: the id in the file belongs to somebody else by now.
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (tmp_path / "data" / "postmaster.pid").write_text(f"{other.pid}\n{tmp_path / 'data'}\n0\n")
        with embedded_postgres(tmp_path) as uri, psycopg.connect(uri) as connection:
            assert connection.execute("SELECT value::text FROM kept").fetchone() == ("[1,2]",)
        assert other.poll() is None
    finally:
        other.communicate(b"\n")


def test_the_data_of_an_older_version_is_carried_over(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    old = EmbeddedPostgres(folder, version="16")
    try:
        old.start()
        old.wait_until_ready()
        with psycopg.connect(old.uri) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute("CREATE TABLE kept AS SELECT '[1,2]'::vector AS value")
    finally:
        old.stop()
    expected = r"Postgres 16 and this is 18\. Carry it over: .*upgrade"
    with pytest.raises(LocalStackError, match=expected) as told, embedded_postgres(folder):
        pass
    command = str(told.value).split("Carry it over: ")[1].split()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    with embedded_postgres(folder) as uri, psycopg.connect(uri) as connection:
        assert connection.execute("SELECT value::text FROM kept").fetchone() == ("[1,2]",)
        assert connection.info.server_version >= 180_000
    assert (tmp_path / "postgres.16" / "data" / "PG_VERSION").read_text().strip() == "16"


def test_an_interrupted_initdb_is_begun_anew(tmp_path: Path) -> None:
    unfinished = tmp_path / "data.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with embedded_postgres(tmp_path) as uri, psycopg.connect(uri) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not unfinished.exists()


def test_a_lost_password_is_explained(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(LocalStackError, match="password is gone"), embedded_postgres(tmp_path):
        pass
