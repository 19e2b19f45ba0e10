"""A user's mistake, told as an answer in the state instead of a crash of the run.

A tool or an intake check raises `InputProblem`; the team builder (`kit/team.py`) turns it into the state
key `problem` and a closing message. Anything else that is raised stays an error of the run.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from typing_extensions import TypedDict

Model = TypeVar("Model", bound=BaseModel)

MAX_SHOWN_ERRORS = 5


class Problem(TypedDict):
    """What was wrong with the input, as callers read it from the state.

    Keys: `code` (stable, snake_case), `message` (what is wrong), `cure` (what to do).
    """

    code: str
    message: str
    cure: str


class InputProblem(Exception):  # noqa: N818 - it is an answer to the user, not a fault of the program
    """The user's input cannot be worked with; the message says why and the cure says what to change."""

    def __init__(self, code: str, message: str, cure: str) -> None:
        """Keep the three parts; all of them are arguments, so that it can be raised in a worker process."""
        super().__init__(code, message, cure)
        self.problem = Problem(code=code, message=message, cure=cure)

    def __str__(self) -> str:
        """What is wrong and what to do, as the user reads it."""
        return f"{self.problem['message']} {self.problem['cure']}"


def parse_input(model: type[Model], value: object, *, key: str) -> Model:
    """Validate one input key of the state.

    Args:
        model: The pydantic model that describes the input.
        value: What the caller sent under `key`; None means that nothing was sent.
        key: The state key, named in the message.

    Returns:
        The validated input.

    Raises:
        InputProblem: Nothing was sent, or it does not fit; the message lists the first few places.
    """
    if value is None:
        raise InputProblem(
            f"missing_{key}", f"There is no '{key}' in the input.", f"Send '{key}': {describe(model)}."
        )
    if isinstance(value, model):
        return value
    try:
        return model.model_validate(value)
    except ValidationError as error:
        places = [f"{_place(key, item['loc'])}: {_plain(item['msg'])}" for item in error.errors()]
        shown = "; ".join(places[:MAX_SHOWN_ERRORS])
        more = f" (and {len(places) - MAX_SHOWN_ERRORS} more)" if len(places) > MAX_SHOWN_ERRORS else ""
        raise InputProblem(
            f"invalid_{key}",
            f"The input is not usable: {shown}{more}.",
            "Correct these fields and send again.",
        ) from error


def describe(model: type[BaseModel]) -> str:
    """Name the fields of an input model, the required ones first, for a cure."""
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    optional = [name for name, field in model.model_fields.items() if not field.is_required()]
    parts = [f"needs {', '.join(required)}"] if required else []
    if optional:
        parts.append(f"takes {', '.join(optional)}")
    return "an object that " + " and ".join(parts)


def _place(key: str, location: tuple[int | str, ...]) -> str:
    return ".".join([key, *(str(part) for part in location)])


def _plain(message: str) -> str:
    # pydantic prefixes what a validator of ours raised; the reader needs only our sentence.
    return message.removeprefix("Value error, ")
