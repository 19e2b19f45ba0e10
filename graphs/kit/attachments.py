"""Files that come with a chat message.

A chat interface sends a file as a block of the message. The agent takes it into its state, where its tools
read it, and leaves the file's name in the message: no model needs the bytes, and most refuse such blocks.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AnyMessage, HumanMessage

from graphs.kit.problems import InputProblem


@dataclass(frozen=True)
class File:
    """One attached file."""

    name: str
    content: bytes

    def json_object(self, known: Sequence[str]) -> dict[str, Any]:
        """The file as a JSON object with known keys.

        Raises:
            InputProblem: It is none.
        """
        cure = f"Attach a JSON object with the keys {', '.join(known)}."
        try:
            value = json.loads(self.content)
        except ValueError as error:
            raise InputProblem("unreadable_file", f"'{self.name}' is no JSON: {error}.", cure) from error
        if not isinstance(value, dict) or not value.keys() & set(known):
            raise InputProblem("unreadable_file", f"'{self.name}' has none of the keys known here.", cure)
        return {key: value[key] for key in known if key in value}


def take_files(said: Sequence[HumanMessage]) -> tuple[list[File], list[HumanMessage]]:
    """Take the files out of messages.

    Returns:
        The files, and those messages that had any, with the files' names in their place.

    Raises:
        InputProblem: A file is not in base64.
    """
    files: list[File] = []
    changed: list[HumanMessage] = []
    for message in said:
        if isinstance(message.content, str):
            continue
        blocks: list[Any] = []
        taken: list[File] = []
        for block in message.content:
            file = _file(block) if isinstance(block, Mapping) else None
            blocks.append({"type": "text", "text": f"\n[attached: {file.name}]"} if file else block)
            taken += [file] if file else []
        if taken:
            changed.append(message.model_copy(update={"content": blocks}))
            files += taken
    return files, changed


def said_object(said: Sequence[AnyMessage], known: Sequence[str]) -> dict[str, Any]:
    """The known keys of a JSON object that was written into a message; nothing if there is none."""
    decoder = json.JSONDecoder()
    for message in said:
        text = message.text
        at = text.find("{")
        while at >= 0:
            try:
                value, _ = decoder.raw_decode(text, at)
            except (ValueError, RecursionError):
                at = text.find("{", at + 1)
                continue
            if found := {key: value[key] for key in known if key in value}:
                return found
            break
    return {}


def _file(block: Mapping[str, Any]) -> File | None:
    """Read a block as LangChain writes it, in either version, or as OpenAI or Anthropic do."""
    if block.get("type") not in ("file", "document", "text-plain"):
        return None
    inner = _mapping(block.get("file") or block.get("source"))
    about = {**_mapping(block.get("extras")), **_mapping(block.get("metadata")), **inner, **block}
    name = next((str(about[key]) for key in ("filename", "name", "title") if about.get(key)), "file")
    if text := about.get("text"):
        return File(name, str(text).encode())
    data = next((about[key] for key in ("base64", "data", "file_data") if about.get(key)), None)
    if not isinstance(data, str):
        return None
    if about.get("source_type") == "text" or inner.get("type") == "text":
        return File(name, data.encode())
    try:
        # A data address has its type before the comma.
        return File(name, base64.b64decode(data.partition(",")[2] or data, validate=True))
    except ValueError as error:
        cure = "Attach the file itself; its content is sent in base64."
        raise InputProblem("unreadable_file", f"'{name}' is not in base64.", cure) from error


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
