"""What callers are told when the model's provider fails.

The server shows a caller the message of Python's own kinds of error, and of any other kind only that an
internal error occurred. So a provider's error is raised as a RuntimeError that says what to do.
"""

from __future__ import annotations

from langchain_core import exceptions

from graphs.kit.policies import is_transient

MAX_TOLD_CHARACTERS = 400


class ModelFailedError(RuntimeError):
    """The model could not answer; the message names the cause and the cure."""


def explain(error: Exception) -> ModelFailedError | None:
    """What a model call's error means to a caller; None if it was not the provider's."""
    what = _what(error)
    return ModelFailedError(what) if what else None


def _what(error: Exception) -> str | None:
    told = str(error)[:MAX_TOLD_CHARACTERS]
    match error:
        case exceptions.ModelAuthenticationError() | exceptions.ModelPermissionDeniedError():
            # The provider's own words may quote a part of the key.
            return (
                "The model's provider refused the server's key: set a valid one in the server's environment."
            )
        case exceptions.ModelNotFoundError():
            return f"The model's provider does not have this model: correct MODEL. It said: {told}"
        case exceptions.ModelRateLimitError():
            return f"The model's provider takes no more requests at present: try again later. It said: {told}"
        case exceptions.ContextOverflowError():
            return f"The conversation is too long for the model: start a new thread. It said: {told}"
        case exceptions.ModelError() if not error.is_retryable:
            return f"The model's provider refused the request. It said: {told}"
    if is_transient(error):
        return f"The model's provider could not be reached, or broke off: try again later. It said: {told}"
    return None
