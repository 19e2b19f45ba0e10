"""What the engine reads from the environment, beside what the stock server reads itself."""

from __future__ import annotations

import functools
import os
import socket
import uuid

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from langgraph_runtime_holdfast.dsn import libpq_dsn
from langgraph_runtime_holdfast.errors import EngineError


class EngineSettings(BaseSettings):
    """Environment variables of the engine; the field's alias is the variable's name."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    database_uri: str = Field(default="", alias="DATABASE_URI")
    """Postgres, where everything is kept."""
    postgres_uri: str = Field(default="", alias="POSTGRES_URI")
    """Taken where DATABASE_URI is not set."""
    redis_uri: str = Field(default="", alias="REDIS_URI")
    """Valkey or Redis, for wake-ups, stream events and cancel signals."""
    redis_key_prefix: str = Field(default="holdfast:", alias="REDIS_KEY_PREFIX")
    """Before every key and channel, so that several deployments can share a Valkey."""
    pool_max_size: int = Field(default=40, ge=4, le=10_000, alias="LANGGRAPH_POSTGRES_POOL_MAX_SIZE")
    """Connections of one process, over all its event loops; two servers fit a stock Postgres' 100."""
    pool_timeout_seconds: float = Field(default=15.0, gt=0, alias="HOLDFAST_POOL_TIMEOUT_SECONDS")
    """How long a call waits for a connection."""
    lease_seconds: float = Field(default=10.0, ge=2, le=3600, alias="HOLDFAST_LEASE_SECONDS")
    """How long a worker holds a run without a heartbeat; then another may take it."""
    poll_seconds: float = Field(default=1.0, gt=0, le=60, alias="HOLDFAST_POLL_SECONDS")
    """How often the database is looked at when no signal comes; the wait that a lost Valkey costs."""
    migration_timeout_seconds: float = Field(default=60.0, gt=0, alias="HOLDFAST_MIGRATION_TIMEOUT_SECONDS")
    """How long a start waits for another one's migrations."""

    @property
    def dsn(self) -> str:
        """The database, for libpq.

        Raises:
            EngineError: Neither DATABASE_URI nor POSTGRES_URI is set, or it is wrong.
        """
        if self.database_uri:
            return libpq_dsn(self.database_uri)
        if self.postgres_uri:
            return libpq_dsn(self.postgres_uri, variable="POSTGRES_URI")
        raise EngineError("Neither DATABASE_URI nor POSTGRES_URI is set. Set one of them.")


@functools.cache
def settings() -> EngineSettings:
    """The settings of this process, read once.

    Raises:
        EngineError: A variable is wrong; one line that names it, never its value.
    """
    try:
        return EngineSettings()
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc'][0]}: {fault['msg'].lower()}" for fault in error.errors())
        raise EngineError(f"The environment is wrong: {faults}.") from None


WORKER_ID = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
"""This process, as leases name it; unique also when a host's process ids come round again."""
