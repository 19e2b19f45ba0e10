"""What the engine reads from the environment, beside what the stock server reads itself."""

from __future__ import annotations

import functools
import os
import socket
import uuid

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from langgraph_runtime_holdfast.dsn import WANTED, libpq_dsn
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.near_misses import near_miss
from langgraph_runtime_holdfast.outbox.signing import signing_keys


class EngineSettings(BaseSettings):
    """Environment variables of the engine; the field's alias is the variable's name."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    database_uri: str = Field(default="", alias="DATABASE_URI")
    """Postgres, where everything is kept."""
    postgres_uri: str = Field(default="", alias="POSTGRES_URI")
    """Taken where DATABASE_URI is not set."""
    redis_uri: str = Field(default="", alias="REDIS_URI")
    """Valkey or Redis, for wake-ups, stream events and cancel signals."""
    redis_cluster: bool = Field(default=False, alias="REDIS_CLUSTER")
    """REDIS_URI names nodes of a cluster; one that is there when the server starts is recognised without."""
    redis_tls_ca_cert: str = Field(default="", alias="REDIS_TLS_CA_CERT")
    """Who signs the certificate of Valkey: PEM in base64, as the official image takes it."""
    redis_max_connections: int | None = Field(default=None, ge=1, alias="REDIS_MAX_CONNECTIONS")
    """Of each event loop to each server; 500, unless REDIS_URI says otherwise, which wins in all three."""
    redis_connect_timeout: float | None = Field(default=None, gt=0, alias="REDIS_CONNECT_TIMEOUT")
    """How many seconds a connection to Valkey may take; 2."""
    redis_health_check_interval: float | None = Field(default=None, ge=0, alias="REDIS_HEALTH_CHECK_INTERVAL")
    """After how many idle seconds a connection to Valkey is asked before it is used; 15, and 0 for never."""
    redis_key_prefix: str = Field(default="holdfast:", alias="REDIS_KEY_PREFIX")
    """Before every key and channel, so that several deployments can share a Valkey."""
    pool_max_size: int | None = Field(default=None, ge=4, le=10_000, alias="LANGGRAPH_POSTGRES_POOL_MAX_SIZE")
    """The most connections of one process, over all its event loops; unset, `budget` derives it."""
    replicas: int = Field(default=1, ge=1, le=1000, alias="HOLDFAST_REPLICAS")
    """How many servers like this one share the database; for the connection budget."""
    workers: int = Field(default=1, ge=1, le=64, alias="HOLDFAST_WORKERS")
    """Processes of each server; `holdfast serve --workers` sets it."""
    pool_timeout_seconds: float = Field(default=15.0, gt=0, alias="HOLDFAST_POOL_TIMEOUT_SECONDS")
    """How long a call waits for a connection."""
    statement_seconds: float = Field(default=15.0, ge=5, le=86_400, alias="HOLDFAST_STATEMENT_SECONDS")
    """How long a statement may be silent before it is ended; one with large parameters gets longer."""
    lease_seconds: float = Field(default=10.0, ge=2, le=3600, alias="HOLDFAST_LEASE_SECONDS")
    """How long a worker holds a run without a heartbeat; then another may take it."""
    poll_seconds: float = Field(default=1.0, gt=0, le=60, alias="HOLDFAST_POLL_SECONDS")
    """How often the database is looked at when no signal comes; the wait that a lost Valkey costs."""
    largest_mb: float = Field(default=100.0, ge=1, le=250, alias="HOLDFAST_LARGEST_MB")
    """How large a run's input, a channel's value and the values of a thread may be, each; see `limits`."""
    feed_mb: float = Field(default=64.0, ge=1, le=1000, alias="HOLDFAST_FEED_MB")
    """How much of a run's events Valkey keeps; the oldest go first."""
    database_wait_seconds: float = Field(
        default=300.0, ge=0, le=86_400, alias="HOLDFAST_DATABASE_WAIT_SECONDS"
    )
    """How long a start waits for a Postgres that is away."""
    migration_timeout_seconds: float = Field(default=60.0, gt=0, alias="HOLDFAST_MIGRATION_TIMEOUT_SECONDS")
    """How long a start waits for another one's migrations, and tries to get tables that are in use."""
    migrates: bool = Field(default=True, alias="HOLDFAST_MIGRATE")
    """Whether a start brings the database to this engine's schema; `serve --no-migrate` unsets it."""
    callback_retry_hours: float = Field(default=72.0, gt=0, le=8760, alias="HOLDFAST_CALLBACK_RETRY_HOURS")
    """How long a callback is tried before it is a dead letter."""
    callback_timeout_seconds: float = Field(
        default=30.0, gt=0, le=600, alias="HOLDFAST_CALLBACK_TIMEOUT_SECONDS"
    )
    """How long one attempt to deliver a callback may take."""
    callback_concurrency: int = Field(default=32, ge=1, le=1000, alias="HOLDFAST_CALLBACK_CONCURRENCY")
    """How many callbacks a process delivers at once, all receivers together."""
    callback_keep_delivered_hours: float = Field(
        default=24.0, gt=0, le=87_600, alias="HOLDFAST_CALLBACK_KEEP_DELIVERED_HOURS"
    )
    """How long it can be seen that a callback was delivered; its body goes at once."""
    callback_keep_dead_days: float = Field(
        default=30.0, gt=0, le=3650, alias="HOLDFAST_CALLBACK_KEEP_DEAD_DAYS"
    )
    """How long a dead letter can be replayed."""
    webhook_signing_secret: SecretStr = Field(default=SecretStr(""), alias="LG_WEBHOOK_SIGNING_SECRET")
    """What callbacks are signed with, `whsec_…`; several while it is changed; empty or "off": not at all."""

    @field_validator("webhook_signing_secret")
    @classmethod
    def _secret_can_sign(cls, value: SecretStr) -> SecretStr:
        signing_keys(value.get_secret_value())
        return value

    @field_validator("redis_key_prefix")
    @classmethod
    def _prefix_leaves_the_slot_to_the_key(cls, value: str) -> str:
        if set("{}") & set(value):
            raise ValueError("braces choose the slot in a cluster, which is not for a prefix; leave them out")
        return value

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
        instead = near_miss(os.environ, "DATABASE_URI")
        raise EngineError(f"DATABASE_URI is not set{instead and f'; {instead}'}. Set it to {WANTED}.")


def require_redis_uri(redis_uri: str) -> None:
    """Refuse to go on without Valkey's address.

    Raises:
        EngineError: It is empty; names what is set instead.
    """
    if not redis_uri:
        instead = near_miss(os.environ, "REDIS_URI")
        raise EngineError(
            f"REDIS_URI is not set{instead and f'; {instead}'}. Set it to redis://HOST:6379 "
            "(Valkey, or Redis 6.2 or newer)."
        )


@functools.cache
def settings() -> EngineSettings:
    """The settings of this process, read once.

    Raises:
        EngineError: A variable is wrong; one line that names it, never its value.
    """
    try:
        return EngineSettings()
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc'][0]}: {_complaint(fault['msg'])}" for fault in error.errors())
        raise EngineError(f"The environment is wrong: {faults}.") from None


def _complaint(message: str) -> str:
    own = message.removeprefix("Value error, ")
    return own if own != message else message.lower()


WORKER_ID = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
"""This process, as leases name it; unique also when a host's process ids come round again."""
