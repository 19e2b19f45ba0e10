"""The embedded Valkey: answers its owner alone, and ends with it."""

import stat
from pathlib import Path

import pytest
import redis

from langgraph_runtime_holdfast.local.errors import LocalStackError
from langgraph_runtime_holdfast.local.valkey import EmbeddedValkey


def test_it_answers_only_who_has_the_password_and_starts_again(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path / "a folder")
    for _ in range(2):
        try:
            valkey.start()
            valkey.wait_until_ready()
            client = redis.Redis.from_url(valkey.uri)
            assert client.info("server")["valkey_version"]
            assert client.config_get("save") == {"save": ""}
            with pytest.raises(redis.AuthenticationError):
                redis.Redis.from_url(f"redis://{valkey.address}").ping()
            with pytest.raises(LocalStackError, match="is in use by process"):
                EmbeddedValkey(tmp_path / "a folder").start()
            assert stat.S_IMODE((tmp_path / "a folder" / "valkey.conf").stat().st_mode) == 0o600
        finally:
            valkey.stop()
        with pytest.raises(redis.ConnectionError):
            client.ping()
