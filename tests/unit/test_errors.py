"""Errors say what happened and to what."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import sdk_client
from sdk_client import Client, ClientSettings, ConfigurationError, HoldfastError, errors


def test_the_message_names_the_ids_that_are_known() -> None:
    error = HoldfastError("It broke", run_id="r", request_id="q", attempts=2)
    assert str(error) == "It broke (run_id=r, request_id=q, attempts=2)"
    assert str(HoldfastError("It broke")) == "It broke"


def test_every_error_is_in_the_tree_of_the_docstring_and_exported() -> None:
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, Exception):
            assert issubclass(kind, HoldfastError)
            assert name in (errors.__doc__ or "")
            assert name in sdk_client.__all__


@pytest.mark.parametrize("name", ["HOLDFAST_URL", "HOLDFAST_RETRY_ATTEMPTS"])
def test_a_wrong_setting_is_one_line_that_names_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_URL", "http://localhost:2024")
    monkeypatch.setenv(name, "secret-looking nonsense")
    with pytest.raises(ConfigurationError) as caught:
        Client.from_env()
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "nonsense" not in str(caught.value)


def test_the_environment_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOLDFAST_URL", raising=False)
    with pytest.raises(ConfigurationError, match="HOLDFAST_URL"):
        Client.from_env()
    (tmp_path / ".env").write_text("HOLDFAST_URL=http://localhost:2024\nHOLDFAST_API_KEY=k3y\nOTHER=1\n")
    settings = ClientSettings.from_env()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "k3y"
    assert "k3y" not in repr(settings)


@pytest.mark.parametrize("url", ["localhost:2024", "ftp://host", "http://", "http://user:password@host"])
def test_an_address_that_is_not_http_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Client(url)


async def test_a_stream_mode_whose_events_could_be_lost_is_refused() -> None:
    async with Client("http://localhost:2024") as client:
        with pytest.raises(ConfigurationError, match="messages-tuple"):
            await client.submit("echo", {}, stream_mode=["messages"])
