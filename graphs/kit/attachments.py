"""Files that come with a chat message.

A chat interface sends a file as a block of the message. The agent takes it into its state, where its tools
read it, and leaves the file's name in the message: no model needs the bytes, and most refuse such blocks.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from langchain_core.messages import AnyMessage, HumanMessage

from .problems import InputProblem


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


def take_files(
    said: Sequence[HumanMessage],
) -> tuple[list[File], list[HumanMessage], InputProblem | None]:
    """Take the files out of messages.

    Returns:
        The files; those messages that had any, with the files' names in their place; and what is wrong with
        the first file that cannot be read, which is taken out as well: it would stay in the thread.
    """
    files: list[File] = []
    changed: list[HumanMessage] = []
    problem: InputProblem | None = None
    for message in said:
        if isinstance(message.content, str):
            continue
        blocks: list[Any] = []
        for block in message.content:
            if not isinstance(block, Mapping) or not _is_file(block):
                blocks.append(block)
                continue
            name = _name(block)
            try:
                files.append(File(name, _content(block, name)))
            except InputProblem as error:
                problem = problem or error
            blocks.append({"type": "text", "text": f"\n[attached: {name}]"})
        if blocks != message.content:
            changed.append(message.model_copy(update={"content": blocks}))
    return files, changed, problem


def without_names(text: str) -> str:
    """A message's text without the names that stand in the place of attached files."""
    return re.sub(r"\n\[attached: [^\n]*", "", text)


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


def _is_file(block: Mapping[str, Any]) -> bool:
    """Whether it is one, as LangChain writes it in either version, or OpenAI, Anthropic or Google do."""
    kind, mime_type = block.get("type"), str(block.get("mime_type"))
    if kind == "media":
        return not mime_type.startswith(("image/", "audio/", "video/"))
    return kind in ("file", "input_file", "document", "text-plain")


def _about(block: Mapping[str, Any]) -> dict[str, Any]:
    parts = [block.get(key) for key in ("extras", "metadata", "file", "source")]
    known: dict[str, Any] = {}
    for part in [*parts, block]:
        known |= {key: value for key, value in part.items() if value} if isinstance(part, Mapping) else {}
    return known


def _name(block: Mapping[str, Any]) -> str:
    about = _about(block)
    given = next((str(about[key]) for key in ("filename", "name", "title") if key in about), "file")
    return " ".join(re.split(r"[/\\]", given)[-1].split())[:200]


def _content(block: Mapping[str, Any], name: str) -> bytes:
    about = _about(block)
    if text := about.get("text"):
        return str(text).encode()
    data = next((about[key] for key in ("base64", "data", "file_data", "url") if key in about), None)
    source = block.get("source")
    plain = isinstance(source, Mapping) and source.get("type") == "text"
    if isinstance(data, str) and (plain or about.get("source_type") == "text"):
        return data.encode()
    head, comma, body = data.partition(",") if isinstance(data, str) else ("", "", "")
    is_address = bool(comma) and head.lower().startswith("data:")
    if is_address and not head.lower().endswith(";base64"):
        return _some(unquote_to_bytes(body), name)
    if not isinstance(data, str) or re.match(r"\w+://", data):
        raise InputProblem(
            "unreadable_file",
            f"'{name}' came without its content.",
            "Attach the file itself: no address and no provider's file is fetched, an empty file is none.",
        )
    # Lines, the other alphabet and a missing end are common, and harmless.
    packed = "".join((body if is_address else data).split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return _some(base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True), name)
    except ValueError as error:
        cure = "Attach the file itself; its content is sent in base64."
        raise InputProblem("unreadable_file", f"'{name}' is not in base64.", cure) from error


def _some(content: bytes, name: str) -> bytes:
    if not content:
        raise InputProblem("unreadable_file", f"'{name}' is empty.", "Attach a file that has content.")
    return content
