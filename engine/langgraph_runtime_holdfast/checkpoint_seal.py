"""Custom encryption of checkpoints, with the `encryption` handlers of langgraph.json.

Values are sealed as blobs, after they were serialised, by the blob handlers; a checkpoint's metadata by the
JSON handlers, which leave the server's own keys readable. The context that a value was sealed with (which
key, which tenant) is kept in front of it, because only the handlers know what it means.

The handlers are async and the serialiser is not. Sealing happens in the saver's worker threads, which may
wait for the loop; opening happens on the loop, so rows are opened before the serialiser sees them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import orjson
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph_sdk import EncryptionContext

from langgraph_runtime_holdfast.errors import EngineError

_SEALED: Final = "+sealed"
_LENGTH_BYTES: Final = 4


def seals_blobs() -> bool:
    """Whether langgraph.json names blob handlers."""
    from langgraph_api.encryption.custom import get_custom_encryption_instance

    instance = get_custom_encryption_instance()
    return instance is not None and instance._blob_encryptor is not None


class SealingSerializer:
    """Seals what another serializer makes. `dumps_typed` belongs into a worker thread, never on the loop."""

    def __init__(self, inner: SerializerProtocol, loop: asyncio.AbstractEventLoop) -> None:
        """Serialise with `inner`; run the handlers on `loop`."""
        self._inner = inner
        self._loop = loop

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Serialise and seal."""
        from langgraph_api.encryption.context import get_encryption_context

        kind, data = self._inner.dumps_typed(obj)
        if not data:
            return kind, data
        sealing = seal_blob(get_encryption_context(), data)
        return kind + _SEALED, asyncio.run_coroutine_threadsafe(sealing, self._loop).result()

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Deserialise what `open_rows` has opened."""
        return self._inner.loads_typed(data)


async def open_rows(rows: Sequence[Sequence[Any]] | None, kind_at: int) -> Sequence[Sequence[Any]] | None:
    """Open the sealed values of rows; what was saved before encryption was configured stays as it is.

    Args:
        rows: With the kind (bytes) of a value and the value (bytes) next to each other.
        kind_at: Where in a row the kind stands.
    """
    if rows is None or not any(row[kind_at].endswith(_SEALED.encode()) for row in rows):
        return rows
    opened = []
    for row in rows:
        kind, blob = row[kind_at].decode(), row[kind_at + 1]
        if kind.endswith(_SEALED):
            kind, blob = kind.removesuffix(_SEALED), await open_blob(bytes(blob))
        opened.append([*row[:kind_at], kind.encode(), blob, *row[kind_at + 2 :]])
    return opened


async def seal_blob(context: dict[str, Any], data: bytes) -> bytes:
    """Seal bytes by the handlers, with the context in front."""
    from langgraph_api.encryption.custom import get_custom_encryption_instance

    sealed = await get_custom_encryption_instance()._blob_encryptor(_context(context), data)
    head = orjson.dumps(context)
    return len(head).to_bytes(_LENGTH_BYTES, "big") + head + bytes(sealed)


async def open_blob(blob: bytes) -> bytes:
    """Open what `seal_blob` has sealed.

    Raises:
        EngineError: langgraph.json names no handler for it.
    """
    from langgraph_api.encryption.custom import get_custom_encryption_instance, normalize_decrypt_result

    instance = get_custom_encryption_instance()
    if instance is None or instance._blob_decryptor is None:
        raise EngineError(
            "A checkpoint or a stream is encrypted, but langgraph.json names no handler that decrypts blobs."
        )
    end = _LENGTH_BYTES + int.from_bytes(blob[:_LENGTH_BYTES], "big")
    context = _context(orjson.loads(blob[_LENGTH_BYTES:end]))
    opened = normalize_decrypt_result(await instance._blob_decryptor(context, blob[end:]))
    return bytes(opened.plaintext)


def _context(metadata: dict[str, Any]) -> EncryptionContext:
    return EncryptionContext("checkpoint", metadata=metadata, field="blob")


async def seal_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Seal a checkpoint's metadata, if encryption is configured."""
    from langgraph_api.encryption.middleware import encrypt_json_if_needed

    sealed: dict[str, Any] = await encrypt_json_if_needed(metadata, _handlers(), "checkpoint", "metadata")
    return sealed


async def open_metadata(metadata: Any) -> Any:
    """Open a checkpoint's metadata, if it is sealed."""
    from langgraph_api.encryption.middleware import decrypt_json_if_needed

    return await decrypt_json_if_needed(metadata, _handlers(), "checkpoint", "metadata")


def _handlers() -> Any:
    from langgraph_api import config

    if not config.LANGGRAPH_ENCRYPTION:
        return None
    from langgraph_api.encryption import get_encryption

    return get_encryption()
