"""Settings of the receiver, read once from the environment and `.env`, refused in one line when wrong."""

from __future__ import annotations

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from sdk_client.callbacks.signature import signing_keys
from sdk_client.errors import ConfigurationError

_TOKEN_MIN_CHARACTERS = 16


class CallbackSettings(BaseSettings):
    """What the receiver needs to know; each field names its environment variable."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", populate_by_name=True, frozen=True
    )

    webhook_token: SecretStr = Field(validation_alias="LG_WEBHOOK_TOKEN")
    """The bearer token that the LangGraph server sends with every webhook."""

    signing_secret: SecretStr = Field(default=SecretStr(""), validation_alias="LG_WEBHOOK_SIGNING_SECRET")
    """What the server signs webhooks with, `whsec_…`; several while it is changed. Empty or "off": signatures
    are not asked for, because the sender makes none."""

    database_uri: SecretStr = Field(validation_alias=AliasChoices("CALLBACKS_DATABASE_URI", "DATABASE_URI"))
    """Postgres in which the inbox lives (schema `callbacks`)."""

    server_url: str = Field(validation_alias="HOLDFAST_URL", pattern=r"^https?://[^\s/]+")
    """The LangGraph server that reported runs are re-read from."""

    api_key: SecretStr | None = Field(default=None, validation_alias="HOLDFAST_API_KEY")
    """Key for that server, if it asks for one."""

    handler: str | None = Field(default=None, validation_alias="CALLBACKS_HANDLER")
    """`module:function` of an async function that is called with each verified `RunEvent`."""

    handler_timeout_seconds: float = Field(
        default=60.0, gt=0, le=3600, validation_alias="CALLBACKS_HANDLER_TIMEOUT_SECONDS"
    )
    verify_timeout_seconds: float = Field(
        default=15.0, gt=0, le=300, validation_alias="CALLBACKS_VERIFY_TIMEOUT_SECONDS"
    )
    max_body_bytes: int = Field(
        default=1_048_576, ge=1024, le=64 * 1_048_576, validation_alias="CALLBACKS_MAX_BODY_BYTES"
    )
    body_timeout_seconds: float = Field(
        default=10.0, gt=0, le=120, validation_alias="CALLBACKS_BODY_TIMEOUT_SECONDS"
    )
    database_wait_seconds: float = Field(
        default=30.0, ge=0, le=600, validation_alias="CALLBACKS_DATABASE_WAIT_SECONDS"
    )
    """How long a start waits for Postgres before it gives up."""

    poll_seconds: float = Field(default=2.0, gt=0, le=60, validation_alias="CALLBACKS_POLL_SECONDS")
    """How often rows that are due (left by a crash, or to be tried again) are looked for."""

    concurrency: int = Field(default=8, ge=1, le=64, validation_alias="CALLBACKS_CONCURRENCY")
    """How many runs are verified or handled at the same time."""

    retention_days: float = Field(default=30.0, gt=0, le=3650, validation_alias="CALLBACKS_RETENTION_DAYS")
    """Finished rows older than this are deleted; unfinished ones are kept and tried on."""

    @field_validator("webhook_token")
    @classmethod
    def _token_is_strong(cls, value: SecretStr) -> SecretStr:
        token = value.get_secret_value()
        if len(token) < _TOKEN_MIN_CHARACTERS or not re.fullmatch(r"[!-~]+", token):
            raise ValueError(
                f"must be at least {_TOKEN_MIN_CHARACTERS} printable ASCII characters without spaces "
                "(for example from `openssl rand -hex 32`)"
            )
        return value

    @field_validator("signing_secret")
    @classmethod
    def _secret_can_verify(cls, value: SecretStr) -> SecretStr:
        signing_keys(value.get_secret_value())
        return value

    @field_validator("database_uri")
    @classmethod
    def _uri_is_for_libpq(cls, value: SecretStr) -> SecretStr:
        # SQLAlchemy's driver suffix is common in shared environments; libpq does not know it.
        uri = re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", value.get_secret_value().strip())
        wanted = "must look like postgresql://user:password@host:5432/database, with libpq parameters only"
        if not re.match(r"^postgres(ql)?://", uri):
            raise ValueError(wanted)
        try:
            conninfo_to_dict(uri)
        except psycopg.ProgrammingError:
            # libpq quotes the offending part, which can be the password: neither shown nor chained.
            raise ValueError(wanted) from None
        return SecretStr(uri)


def load_settings() -> CallbackSettings:
    """Read the settings.

    Raises:
        ConfigurationError: a variable is missing or wrong; one line that names each, without its value.
    """
    try:
        return CallbackSettings.model_validate({})
    except ValidationError as error:
        raise ConfigurationError("; ".join(_complaint(fault) for fault in error.errors())) from None


def _complaint(fault: ErrorDetails) -> str:
    name = fault["loc"][0]
    if fault["type"] == "missing":
        return f"{name} is not set: put it into the environment or .env"
    return f"{name} is wrong: {fault['msg'].removeprefix('Value error, ')}"
