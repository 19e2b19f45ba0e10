"""The embedded Postgres: a folder that keeps its data, for one owner at a time."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from langgraph_runtime_holdfast.local.errors import LocalStackError
from langgraph_runtime_holdfast.local.postgres import embedded_postgres


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
