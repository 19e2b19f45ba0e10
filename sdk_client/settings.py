"""What the client reads from the environment (and from `.env` in the working directory)."""

from __future__ import annotations

from pydantic import AnyHttpUrl, Field, PositiveFloat, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from sdk_client.errors import ConfigurationError
from sdk_client.retry import RetryPolicy
from sdk_client.transport import CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS

_POLICY = RetryPolicy()


class ClientSettings(BaseSettings):
    """Environment variables of the client; the field's alias is the variable's name."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    url: AnyHttpUrl = Field(alias="HOLDFAST_URL")
    """Where the LangGraph server is, http or https."""
    api_key: SecretStr | None = Field(default=None, alias="HOLDFAST_API_KEY")
    """Sent as the header `x-api-key`; leave out for a server without authentication."""
    connect_timeout_seconds: PositiveFloat = Field(
        default=CONNECT_TIMEOUT_SECONDS, alias="HOLDFAST_CONNECT_TIMEOUT_SECONDS"
    )
    """How long a connection may take to open."""
    read_timeout_seconds: PositiveFloat = Field(
        default=READ_TIMEOUT_SECONDS, alias="HOLDFAST_READ_TIMEOUT_SECONDS"
    )
    """How long the server may be silent; it sends a heartbeat every 5 s on a long poll or a stream."""
    retry_attempts: PositiveInt | None = Field(default=_POLICY.attempts, alias="HOLDFAST_RETRY_ATTEMPTS")
    """How often one request is tried at most; unset, only time bounds it."""
    retry_deadline_seconds: PositiveFloat = Field(
        default=_POLICY.deadline_seconds, alias="HOLDFAST_RETRY_DEADLINE_SECONDS"
    )
    """How long one request may take with all its retries."""
    webhook_url: AnyHttpUrl | None = Field(default=None, alias="HOLDFAST_WEBHOOK_URL")
    """Where the server reports the end of every run that names no webhook of its own."""
    callbacks_url: AnyHttpUrl | None = Field(default=None, alias="CALLBACKS_URL")
    """Where this machine reaches the callback receiver."""

    @classmethod
    def from_env(cls) -> ClientSettings:
        """Read and check the environment.

        Raises:
            ConfigurationError: A variable is missing or wrong; one line that names it, never its value.
        """
        try:
            return cls()  # type: ignore[call-arg]  # filled in from the environment
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].lower()}"
                for problem in error.errors()
            )
            raise ConfigurationError(f"Set these in the environment or in .env: {problems}") from error
