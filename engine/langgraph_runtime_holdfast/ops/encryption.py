"""Custom encryption of stored JSON fields, for operations that must look into a field to do their work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson


def using_custom_encryption() -> bool:
    """Whether the user's `Encryption` object is configured."""
    from langgraph_api.encryption.shared import using_custom_encryption as using

    return bool(using())


async def decrypted(row: dict[str, Any], model: str, fields: Sequence[str]) -> dict[str, Any]:
    """Return the row with these fields in plain text; without custom encryption, as it is."""
    if not using_custom_encryption():
        return row
    from langgraph_api.encryption.middleware import decrypt_response

    plain: dict[str, Any] = await decrypt_response(row, model, list(fields), plaintext_from_core=False)
    return plain


async def encrypted_text(text: str | None) -> str | None:
    """Return text, such as what an error says, as JSON that is encrypted as a thread's error is."""
    if text is None or not using_custom_encryption():
        return text
    row = await encrypted({"error": {"message": text}}, "thread", ["error"])
    return orjson.dumps(row["error"]).decode()


async def decrypted_text(text: str | None) -> str | None:
    """Return in plain text what `encrypted_text` has made; what is plain stays so."""
    if text is None or not (text.startswith("{") and "__encryption_context__" in text):
        return text
    row = await decrypted({"error": orjson.loads(text)}, "thread", ["error"])
    return str(row["error"]["message"])


async def encrypted(row: dict[str, Any], model: str, fields: Sequence[str]) -> dict[str, Any]:
    """Return the row with these fields encrypted; without custom encryption, as it is."""
    if not using_custom_encryption():
        return row
    from langgraph_api.encryption.middleware import encrypt_request

    stored: dict[str, Any] = await encrypt_request(row, model, list(fields), plaintext_for_core=False)
    return stored
