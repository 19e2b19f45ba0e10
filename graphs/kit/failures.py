"""What happens when the model's provider fails: patience, and then a clear word to the caller.

The server shows a caller the message of Python's own kinds of error, and of any other kind only that an
internal error occurred. So what lasts is raised as a RuntimeError that names the cause and the cure.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import stamina
from langchain_core import exceptions

from .policies import MODEL_TIMEOUT_SECONDS, is_transient, retry_after_seconds

MODEL_ATTEMPTS: Final = 4
LONGEST_WAIT_SECONDS: Final = 60.0
"""A provider that asks for more is not waited for."""
PATIENCE_SECONDS: Final = 100.0
MAX_TOLD_CHARACTERS: Final = 400

_KEY: Final = re.compile(r"\b(?:sk|pk|rk|gsk|xai)-[\w*.-]{6,}|\bAIza[\w-]{20,}|\bBearer \S+")

T = TypeVar("T")


class ModelFailedError(exceptions.ModelError, RuntimeError):
    """The model could not answer; the message names the cause and the cure. Trying again was tried."""


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call a model, again after faults that may pass, as soon as the provider says that it may.

    Raises:
        ModelFailedError: The provider refuses, or the fault lasts.
    """
    try:
        async for attempt in stamina.retry_context(
            on=_wait, attempts=MODEL_ATTEMPTS, timeout=PATIENCE_SECONDS, wait_initial=0.5, wait_max=8.0
        ):
            with attempt:
                async with asyncio.timeout(MODEL_TIMEOUT_SECONDS):
                    return await call()
    except Exception as error:
        what = _explain(error)
        if what is None:
            raise
        raise ModelFailedError(what) from error
    raise AssertionError("stamina ends with an answer or an error")


def _wait(error: Exception) -> bool | float:
    wait_seconds = retry_after_seconds(error)
    if wait_seconds is None or not _may_pass(error):
        return _may_pass(error)
    return wait_seconds if wait_seconds <= LONGEST_WAIT_SECONDS else False


def _may_pass(error: Exception) -> bool:
    """Whether it is transient, or was told by the provider within an answer that had begun well."""
    if isinstance(error, exceptions.ModelError) or is_transient(error):
        return is_transient(error)
    if "APIError" in {each.__name__ for each in type(error).__mro__}:  # OpenAI's and Anthropic's
        return getattr(error, "status_code", 200) == 200
    # langchain-openai makes a ValueError of such an error of OpenAI's responses, LangChain of a stream that
    # ends before it has begun; and what a proxy says in a provider's place, or half an event, is no JSON.
    passing = (
        *("server_error:", "rate_limit_exceeded:"),
        *("No generations found in stream", "Unexpected response type"),
    )
    return isinstance(error, ValueError) and (
        isinstance(error, json.JSONDecodeError) or str(error).startswith(passing)
    )


def _explain(error: Exception) -> str | None:
    """What a model call's error means to a caller; None if it was not the provider's."""
    told = _KEY.sub("[key]", str(error))[:MAX_TOLD_CHARACTERS]
    match error:
        case exceptions.ModelAuthenticationError():
            # The provider's own words may quote a part of the key.
            return (
                "The model's provider refused the server's key: set a valid one in the server's environment."
            )
        case exceptions.ModelPermissionDeniedError():
            return f"The model's provider does not permit this to the server's key. It said: {told}"
        case exceptions.ModelNotFoundError():
            return f"The model's provider does not have this model: correct MODEL. It said: {told}"
        case exceptions.ModelRateLimitError():
            return f"The model's provider takes no more requests at present: try again later. It said: {told}"
        case exceptions.ContextOverflowError():
            return f"The conversation is too long for the model: start a new thread. It said: {told}"
        case exceptions.ModelError() if not error.is_retryable:
            return f"The model's provider refused the request. It said: {told}"
        case TimeoutError():
            return f"The model did not answer within {MODEL_TIMEOUT_SECONDS:g} s: ask for less at once."
    if _may_pass(error):
        return f"The model's provider could not be reached, or broke off: try again later. It said: {told}"
    if getattr(error, "status_code", 0) >= 400:
        # Of these the clients make no ModelError: 402 to be paid first, 413 too large, 422 …
        return f"The model's provider refused the request. It said: {told}"
    if isinstance(error, AttributeError | KeyError | TypeError | ValueError):
        # A client that meets a page in place of an answer, a missing key, a kind of message it does not know.
        return f"The model's client cannot read the request or the answer, or lacks its key. It said: {told}"
    return None
