"""Custom encryption that anyone can see through but that leaves no plain text behind."""

from typing import Any

from langgraph_sdk import Encryption, EncryptionContext

encryption = Encryption()
MARK = "sealed:"


def turned(text: str) -> str:
    return "".join(chr(ord(letter) ^ 1) for letter in text)


def seal(value: Any) -> Any:
    if isinstance(value, str):
        return MARK + turned(value)
    if isinstance(value, dict):
        return {name: seal(inner) for name, inner in value.items()}
    return [seal(inner) for inner in value] if isinstance(value, list) else value


def unseal(value: Any) -> Any:
    if isinstance(value, str):
        return turned(value.removeprefix(MARK)) if value.startswith(MARK) else value
    if isinstance(value, dict):
        return {name: unseal(inner) for name, inner in value.items()}
    return [unseal(inner) for inner in value] if isinstance(value, list) else value


# The server needs these to find its own way.
PLAIN = {
    "owner",
    "graph_id",
    "assistant_id",
    "thread_id",
    "run_id",
    "created_by",
    "source",
    "step",
    "run_attempt",
}


@encryption.encrypt.json
async def encrypt_json(context: EncryptionContext, data: dict[str, Any]) -> dict[str, Any]:
    return {
        name: inner if name in PLAIN or name.startswith("__") else seal(inner) for name, inner in data.items()
    }


@encryption.decrypt.json
async def decrypt_json(context: EncryptionContext, data: dict[str, Any]) -> dict[str, Any]:
    return {name: unseal(inner) for name, inner in data.items()}


@encryption.encrypt.blob
async def encrypt_blob(context: EncryptionContext, blob: bytes) -> bytes:
    return bytes(byte ^ 1 for byte in blob)


@encryption.decrypt.blob
async def decrypt_blob(context: EncryptionContext, blob: bytes) -> bytes:
    return bytes(byte ^ 1 for byte in blob)
