"""What the stack is told: data folder, ports, secrets, and the environment its parts get."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from langgraph_runtime_holdfast.local.errors import LocalStackError
from langgraph_runtime_holdfast.local.files import write_private
from langgraph_runtime_holdfast.local.manifest import read_manifest
from langgraph_runtime_holdfast.local.servers import DEFAULT_ENGINE, Engine, find_engine
from langgraph_runtime_holdfast.outbox.signing import make_secret, signing_keys

TOKENS = ("LG_WEBHOOK_TOKEN", "HOLDFAST_API_KEY")
# What the server signs callbacks with and the receiver verifies, in the form that Standard Webhooks gives it.
SIGNING_SECRET = "LG_WEBHOOK_SIGNING_SECRET"  # noqa: S105 - a name
SECRETS = (*TOKENS, SIGNING_SECRET)
# What the server's auth and the receiver insist on; said here, before they refuse every call.
SHORTEST_SECRET = 16
# Read by this stack alone, so that here the shell wins over .env as people expect. All else goes the other
# way round, because `langgraph dev` lets .env win and both must see the same values.
SHELL_WINS = ("HOLDFAST_HOME", "HOLDFAST_PORT", "CALLBACKS_PORT", "HOLDFAST_POSTGRES_PORT")
DEFAULT_PORTS = {"HOLDFAST_PORT": 2024, "CALLBACKS_PORT": 2025, "HOLDFAST_POSTGRES_PORT": 0}
LARGEST_PORT = 65535


@dataclass(frozen=True)
class LocalSettings:
    """The settings of one stack."""

    config: Path
    """langgraph.json; its folder is the project."""
    home: Path
    """The data folder."""
    engine: Engine
    ports: Mapping[str, int]
    """By the name of the setting; 0 is any free port."""
    environment: Mapping[str, str]
    """The process environment under the values of .env."""

    @property
    def default_ports(self) -> list[str]:
        """The settings of ports that nobody has made."""
        return [name for name in DEFAULT_PORTS if not self.environment.get(name)]

    @classmethod
    def load(
        cls, config: Path, engine: str = DEFAULT_ENGINE, environment: Mapping[str, str] | None = None
    ) -> "LocalSettings":
        """Read langgraph.json, .env beside it and the environment.

        Args:
            config: langgraph.json.
            engine: a name of servers.ENGINES.
            environment: instead of os.environ.

        Raises:
            LocalStackError: something in them is wrong; names it.
        """
        config = config.resolve()
        manifest = read_manifest(config)
        shell = dict(os.environ if environment is None else environment)
        merged = {**shell, **_read_dotenv(config, manifest)}
        merged.update({name: shell[name] for name in SHELL_WINS if name in shell})
        for name in TOKENS:
            if name in merged and len(merged[name].strip()) < SHORTEST_SECRET:
                raise LocalStackError(
                    f"{name} in .env or the environment has fewer than {SHORTEST_SECRET} characters. "
                    "Give it a longer value, or remove it and one is generated."
                )
        try:
            signing_keys(merged.get(SIGNING_SECRET, ""))
        except ValueError as error:
            raise LocalStackError(f"{SIGNING_SECRET} in .env or the environment {error}.") from None
        return cls(
            config=config,
            home=(config.parent / Path(merged.get("HOLDFAST_HOME") or ".holdfast").expanduser()).resolve(),
            engine=find_engine(engine),
            ports={name: _read_port(merged, name) for name in DEFAULT_PORTS},
            environment=merged,
        )

    @property
    def project(self) -> Path:
        """The folder of langgraph.json."""
        return self.config.parent

    def read_or_make_secrets(self) -> dict[str, str]:
        """The secrets by name; see `secret_values`."""
        return secret_values(self.home, self.environment)


def secret_values(home: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The secrets by name: those given, else those of the data folder's secrets.env, made once."""
    path = home / "secrets.env"
    kept = {name: value for name, value in dotenv_values(path).items() if value} if path.exists() else {}
    missing = [name for name in SECRETS if not environment.get(name) and name not in kept]
    if missing:
        kept |= {name: _make_secret(name) for name in missing}
        write_private(path, "\n".join(f"{name}={value}" for name, value in kept.items()))
    return {name: environment.get(name) or kept[name] for name in SECRETS}


def _make_secret(name: str) -> str:
    return make_secret() if name == SIGNING_SECRET else secrets.token_urlsafe(32)


def _read_dotenv(config: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """The values the server would read: langgraph.json's `env`, a file or the values themselves."""
    env = manifest.get("env", ".env")
    values = env if isinstance(env, dict) else dotenv_values(config.parent / str(env))
    return {name: str(value) for name, value in values.items() if value is not None}


def _read_port(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name) or str(DEFAULT_PORTS[name])
    if not (text.isascii() and text.isdecimal() and int(text) <= LARGEST_PORT):
        raise LocalStackError(f"{name} must be a port from 0 (any free one) to {LARGEST_PORT}, not {text!r}.")
    return int(text)
