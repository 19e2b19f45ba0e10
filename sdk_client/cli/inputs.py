"""What a person types, turned into the input of a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from sdk_client.errors import ConfigurationError

STANDARD_INPUT = "-"


def build_input(text: str | None, source: str | None) -> dict[str, Any]:
    """Merge the TEXT and the --input of a command into the input of a run.

    Args:
        text: Becomes a user message, after those that `source` brings.
        source: A file, `-` for standard input, or the JSON itself; an object with the agent's input keys.

    Raises:
        ConfigurationError: There is neither, the file cannot be read, or it does not hold what is needed.
    """
    if text is None and source is None:
        raise ConfigurationError("there is nothing to send: give a TEXT, --input, or both")
    values = {} if source is None else read_object(source, "--input")
    if text is None:
        return values
    if not text.strip():
        raise ConfigurationError("the TEXT is empty; leave it out to send --input alone")
    messages = values.get("messages", [])
    if not isinstance(messages, list):
        raise ConfigurationError(
            f"'messages' in --input must be a list to put the TEXT after, not {_kind(messages)}; "
            "make it a list or leave out the TEXT"
        )
    return {**values, "messages": [*messages, {"role": "user", "content": text}]}


def read_object(source: str, option: str) -> dict[str, Any]:
    """Read a JSON object from a file, from standard input (`-`), or from the argument itself.

    Args:
        source: What was given on the command line.
        option: Its name there, for messages.

    Raises:
        ConfigurationError: One line that says what is wrong, with line and column for broken JSON.
    """
    place, text = _read_text(source, option)
    return parse_object(text, place)


def parse_object(text: str, place: str) -> dict[str, Any]:
    """Parse a JSON object; `place` says where it came from.

    Raises:
        ConfigurationError: It is not JSON, or not an object.
    """
    try:
        value = json.loads(text, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"{place} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{place} is not JSON: {error}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{place} is nested too deeply to be read") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"{place} must be a JSON object ({{…}}), not {_kind(value)}")
    return value


def _read_text(source: str, option: str) -> tuple[str, str]:
    if source.lstrip().startswith(("{", "[", '"')):
        return option, source
    place = "standard input" if source == STANDARD_INPUT else f"the file {source}"
    try:
        raw = sys.stdin.buffer.read() if source == STANDARD_INPUT else Path(source).read_bytes()
        # utf-8-sig: editors on Windows put a byte order mark in front, which JSON does not allow.
        return place, raw.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{option}: there is no file {source}; give a file, - for standard input, or JSON ({{…}})"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"{option}: {place} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{option}: {place} is not text in UTF-8 (byte {error.start}); it must hold a JSON object"
        ) from error
    except ValueError as error:  # a path with a NUL byte
        raise ConfigurationError(f"{option}: {place} cannot be read: {error}") from error


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python reads though JSON has neither: they would arrive as null."""
    raise ValueError(f"{name} is no JSON number; use null")


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", dict: "an object", type(None): "null"}
    return names.get(type(value), "a number")
